"""Write the HTML report: what was run, the headline table, the figures in numbers, provenance."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from anamnesis.artifacts import read_json, read_parquet
from anamnesis.report.builder import Section, build_report
from anamnesis.report.claims import claims_section
from anamnesis.report.dynamics import DynamicsResults, dynamics_section
from anamnesis.report.experiment import ExperimentResults, experiment_sections
from anamnesis.report.robustness import robustness_section
from anamnesis.report.was_run import settings_section
from anamnesis.report.within_stage import within_stage_section

PROMPTS_SHOWN = 2  # one clean and one shuffled prompt of the first set

SECTIONS = {"within_stage": within_stage_section, "robustness": robustness_section}


def main(
    config: Mapping,
    table: str,
    curves: str,
    heads: str,
    figures: Mapping[str, str],
    comparisons: Sequence[Mapping[str, Any]],
    records: Sequence[str],
    prompts: str,
    reference: str,
    report: str,
    interventions: Sequence[str] = (),
    pictures: Sequence[str] = (),
    dynamics: Sequence[str] = (),
    settings: Sequence[str] = (),
    closer: Sequence[str] | str = (),
) -> None:
    """Write ``report``. ``figures``: name -> PNG, all of them among the inputs ``pictures``. ``comparisons``:
    of variants with the methods they are variants of. ``dynamics``, ``settings``: tables made on request, and
    ``closer`` those of single questions, each shown by a function of ``SECTIONS``.
    """
    closer = [closer] if isinstance(closer, str) else closer
    sets = [interventions] if isinstance(interventions, str) else list(interventions)
    shown = read_parquet(prompts).drop_duplicates("kind").head(PROMPTS_SHOWN)
    results = ExperimentResults(
        config=config,
        table=pd.read_csv(table),
        curves=read_parquet(curves),
        heads=read_parquet(heads),
        figures=figures,
        comparisons=comparisons,
        interventions=pd.concat([read_parquet(path) for path in sets], ignore_index=True) if sets else None,
        records={_record_name(path): read_json(path) for path in records},
        prompts=shown.assign(task=Path(prompts).parent.name),
        reference=pd.read_csv(reference),
        links={kind: Path(table).with_suffix(f".{kind}") for kind in ("csv", "md", "tex")},
        further=[
            *_on_request(dynamics, settings, curves, figures, table),
            *(SECTIONS[Path(p).stem](read_parquet(p), figures[Path(p).stem]) for p in closer),
        ],
    )
    title = f"{config['suite']['name']} · {config['model']['name']}"
    build_report(experiment_sections(results), report, f"Anamnesis: {title}")


def _on_request(dynamics, settings, curves: str, figures: Mapping[str, str], table: str) -> list[Section]:
    if not dynamics:
        return []
    frames = {Path(path).stem: read_parquet(path) for path in dynamics}
    traced = DynamicsResults(**frames, curves=read_parquet(curves), figures=figures)
    return [dynamics_section(traced), claims_section(traced, pd.read_csv(table)), settings_section(settings)]


def _record_name(path: str) -> str:
    """The path below the results of the model, without its ending: readable and unique."""
    return "/".join(Path(path).with_suffix("").parts[-5:])


if __name__ == "__main__":
    from anamnesis.job import run_job

    run_job(snakemake, main)

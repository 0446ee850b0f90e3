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
from anamnesis.report.mechanisms import mechanisms_section
from anamnesis.report.was_run import settings_section

PROMPTS_SHOWN = 2  # one clean and one shuffled prompt of the first set


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
    mechanisms: Sequence[str] = (),
    captions: Sequence[str] = (),
) -> None:
    """Write ``report``. ``figures``: name -> PNG, all of them among the inputs ``pictures``. ``comparisons``:
    of variants with the methods they are variants of. ``dynamics``, ``settings``, ``mechanisms``: tables made
    on request; ``captions`` of the last one's figures stand beside them.
    """
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
        further=_further(curves, figures, table, dynamics, settings, mechanisms),
    )
    title = f"Anamnesis: {config['suite']['name']} · {config['model']['name']}"
    build_report(experiment_sections(results), report, title)


def _further(curves: str, figures: Mapping, table: str, dynamics, settings, mechanisms) -> list[Section]:
    sections = []
    if dynamics:
        frames = {Path(path).stem: read_parquet(path) for path in dynamics}
        traced = DynamicsResults(**frames, curves=read_parquet(curves), figures=figures)
        sections += [dynamics_section(traced), claims_section(traced, pd.read_csv(table))]
        sections.append(settings_section(settings))
    if mechanisms:
        sections.append(mechanisms_section({Path(p).stem: pd.read_csv(p) for p in mechanisms}, figures))
    return sections


def _record_name(path: str) -> str:
    """The path below the results of the model, without its ending: readable and unique."""
    return "/".join(Path(path).with_suffix("").parts[-5:])


if __name__ == "__main__":
    from anamnesis.job import run_job

    run_job(snakemake, main)

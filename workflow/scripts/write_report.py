"""Write the HTML report: what was run, the headline table, the figures in numbers, provenance."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from anamnesis.core.artifacts import read_json, read_parquet
from anamnesis.report.builder import build_report
from anamnesis.report.experiment import ExperimentResults, experiment_sections
from anamnesis.report.on_request import sections_on_request

GAINS = "vector_recovery_gain.csv"  # beside the figure
PROMPTS_SHOWN = 2  # one clean and one shuffled prompt of the first set


def main(
    config: Mapping,
    table: str,
    paired: str,
    held_out: str,
    curves: str,
    heads: str,
    figures: Mapping[str, str],
    records: Sequence[str],
    prompts: str,
    reference: str,
    report: str,
    interventions: Sequence[str] = (),
    pictures: Sequence[str] = (),
    on_request: Sequence[str] = (),
) -> None:
    """Write ``report``. ``figures``: name -> PNG, all of them among the inputs ``pictures``. ``on_request``:
    tables of analyses.
    """
    sets = [interventions] if isinstance(interventions, str) else list(interventions)
    shown = read_parquet(prompts).drop_duplicates("kind").head(PROMPTS_SHOWN)
    headline, accuracy = pd.read_csv(table), read_parquet(curves)
    varied, given_back = figures.get("variants"), figures.get("vector_recovery")
    results = ExperimentResults(
        config=config,
        table=headline,
        curves=accuracy,
        heads=read_parquet(heads),
        figures=figures,
        variants=None if varied is None else pd.read_csv(Path(varied).with_suffix(".csv")),
        paired=pd.read_csv(paired),
        held_out=pd.read_csv(held_out),
        interventions=pd.concat([read_parquet(path) for path in sets], ignore_index=True) if sets else None,
        records={_record_name(path): read_json(path) for path in records},
        prompts=shown.assign(task=Path(prompts).parent.name),
        reference=pd.read_csv(reference),
        links={kind: Path(table).with_suffix(f".{kind}") for kind in ("csv", "md", "tex")},
        further=sections_on_request(on_request, figures, config, accuracy, headline),
        recovered=None if given_back is None else pd.read_csv(Path(given_back).with_name(GAINS)),
    )
    title = f"Anamnesis: {config['suite']['name']} · {config['model']['name']}"
    build_report(experiment_sections(results), report, title)


def _record_name(path: str) -> str:
    """The path below the results of the model, without its ending: readable and unique."""
    return "/".join(Path(path).with_suffix("").parts[-5:])


if __name__ == "__main__":
    from anamnesis.core.job import run_job

    run_job(snakemake, main)

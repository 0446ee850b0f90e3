"""Write the HTML report: what was run, the headline table, the figures in numbers, provenance."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

from anamnesis.core.artifacts import read_json, read_parquet

if TYPE_CHECKING:
    import pandas as pd

    from anamnesis.report.answers import Answers
    from anamnesis.report.builder import Section

GAINS, BY_TASK = "vector_recovery_gain.csv", "head_effects_by_task.csv"  # in the folder of the figures
ANSWER_LINKS = ("all changed answers (CSV)", "shares (CSV)", "counts (CSV)")
PROMPTS_SHOWN = 2  # one clean and one shuffled prompt of the first set


def main(
    config: Mapping,
    table: str,
    paired: str,
    held_out: str,
    curves: str,
    heads: str,
    figures: Mapping[str, str],
    captions: Mapping[str, str],
    sections: Mapping[str, Sequence[str]],
    records: Sequence[str],
    prompts: str,
    reference: str,
    report: str,
    answers: Sequence[str],
    interventions: Sequence[str] = (),
    **others: Any,
) -> None:
    """Write ``report``. ``figures``: name -> PNG; ``sections``: function of an analysis, "module:function",
    -> its files. ``others``: inputs that are among these.
    """
    import pandas as pd

    from anamnesis.core.run_warnings import run_warnings
    from anamnesis.core.steps import listed
    from anamnesis.report.builder import build_report
    from anamnesis.report.experiment import experiment_sections
    from anamnesis.report.glossary import ABBREVIATIONS, TITLE
    from anamnesis.report.results import ExperimentResults

    recovered = _beside(figures, "vector_recovery", GAINS)
    whole = {"config": config, "figures": figures, "captions": captions}
    whole |= {"table": pd.read_csv(table), "curves": read_parquet(curves)}
    results = ExperimentResults(
        **whole,
        **_frames(heads, paired, held_out, reference, prompts, listed(interventions)),
        variants=_beside(figures, "variants", "variants.csv"),
        records={_record_name(path): read_json(path) for path in records},
        links={kind: Path(table).with_suffix(f".{kind}") for kind in ("csv", "md", "tex")},
        further=list(_further(sections, whole)),
        recovered=recovered,
        answers=_answers(answers, config["suite"]["orders"], recovered),
        answer_links=dict(zip(ANSWER_LINKS, answers, strict=True)),
        measures=_beside(figures, "summary", "summary.csv"),
        task_effects=_beside(figures, "head_effects", BY_TASK),
        warnings=run_warnings(Path(config["results"], config["model"]["name"], config["suite"]["name"])),
    )
    title = f"Anamnesis: {config['suite']['name']} · {config['model']['name']}"
    build_report(experiment_sections(results), report, title, abbreviations=ABBREVIATIONS, glossary=TITLE)


def _frames(
    heads: str, paired: str, held_out: str, reference: str, prompts: str, interventions: Sequence[str]
) -> "dict[str, pd.DataFrame | None]":
    """The tables that are shown as they were written."""
    import pandas as pd

    shown = read_parquet(prompts).drop_duplicates("kind").head(PROMPTS_SHOWN)
    added = [read_parquet(path) for path in interventions]
    return {
        "heads": read_parquet(heads),
        "paired": pd.read_csv(paired),
        "held_out": pd.read_csv(held_out),
        "reference": pd.read_csv(reference),
        "prompts": shown.assign(task=Path(prompts).parent.name),
        "interventions": pd.concat(added, ignore_index=True) if added else None,
    }


def _answers(
    files: Sequence[str], orders: Sequence[Sequence[str]], recovered: "pd.DataFrame | None"
) -> "Answers":
    from anamnesis.report.answers import Answers
    from anamnesis.stats.answer_changes import read_changes, read_counts

    changes, shares, counts = files
    return Answers(read_changes(changes), read_counts(shares), read_counts(counts), orders, recovered)


def _beside(figures: Mapping[str, str], name: str, table: str) -> "pd.DataFrame | None":
    """A table in the folder of a figure; None where the run has no such figure."""
    import pandas as pd

    return pd.read_csv(Path(figures[name]).with_name(table)) if name in figures else None


def _further(sections: Mapping[str, Sequence[str]], whole: Mapping[str, Any]) -> "Iterator[Section]":
    """The sections of analyses."""
    from anamnesis.core.steps import loaded
    from anamnesis.report.results import AnalysisResults

    for call, files in sections.items():
        paths = [Path(file) for file in files]
        tables = {path.stem: str(path) for path in paths if path.suffix in (".parquet", ".csv")}
        frames = loaded(tables, dict.fromkeys(tables, False))
        yield from resolve_name(call)(AnalysisResults(frames, files=paths, **whole))


def _record_name(path: str) -> str:
    """The path below the results of the model, without its ending: readable and unique."""
    return "/".join(Path(path).with_suffix("").parts[-5:])


if __name__ == "__main__":
    from anamnesis.core.job import run_job

    run_job(snakemake, main)

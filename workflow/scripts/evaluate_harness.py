"""Ask one checkpoint tasks of lm-evaluation-harness."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from anamnesis.core.artifacts import write_parquet


def main(
    snapshot: str,
    model: Mapping[str, Any],
    harness: Mapping[str, Any],
    batch_tokens: int,
    output: str,
    metrics: str,
    method: str | None = None,
    adapters: Sequence[str] = (),
    task_files: Sequence[str] = (),
) -> dict:
    """Write ``output`` (parquet, one row per document of a task that has a score for each) and ``metrics``
    (parquet, one row per metric). ``harness``: the keys of the configuration; ``method``: what trained
    ``adapters``, as its models may run in an engine of their own; ``task_files``: found in their folder.
    """
    from anamnesis.evaluation.harness.run import evaluate_tasks
    from anamnesis.evaluation.harness.task_files import check_installed
    from anamnesis.evaluation.records import TYPES
    from anamnesis.training.trained import load_trained

    check_installed()
    engine, tokenizer = load_trained(snapshot, adapters, method, model)
    folder = harness["harness_folder"]
    records, found = evaluate_tasks(
        engine,
        tokenizer,
        harness["harness"],
        Path(folder) if folder else None,
        harness["harness_shots"],
        harness["harness_examples"],
        batch_tokens,
    )
    write_parquet(output, records, TYPES)
    write_parquet(metrics, found)
    return {"adapters": list(adapters), "rows": len(records), "tasks": list(found["task"].unique())}


if __name__ == "__main__":
    from anamnesis.core.job import run_job

    run_job(snakemake, main)

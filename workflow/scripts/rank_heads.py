"""Put the shards of every task together and rank all heads by their mean causal effect over tasks."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def main(
    shards: Sequence[str],
    tasks: Sequence[str],
    vectors: Mapping[str, Any],
    effects: Sequence[str],
    heads: str,
) -> dict:
    """Write ``heads`` and, for each of ``tasks``, its ``causal_effects.parquet`` (the paths ``effects``, in
    that order).
    """
    import pandas as pd

    from anamnesis.core.artifacts import read_parquet, write_parquet
    from anamnesis.vectors.head_sets import head_records
    from anamnesis.vectors.ranking import EFFECT_COLUMNS, rank_heads

    ranked: dict[str, pd.DataFrame] = {}
    for task, output in zip(tasks, effects, strict=True):
        parts = [
            read_parquet(path, EFFECT_COLUMNS) for path in shards if Path(path).parent == Path(output).parent
        ]
        whole = pd.concat([part for part in parts if len(part)], ignore_index=True)
        whole = whole.sort_values(EFFECT_COLUMNS[:3], ignore_index=True)
        write_parquet(output, whole)
        ranked[task] = whole
    table = rank_heads(ranked, vectors["rank_by"], vectors["heads"], vectors["head_list"])
    write_parquet(heads, table)
    return {"heads": head_records(table)}


if __name__ == "__main__":
    from anamnesis.core.job import run_job

    run_job(snakemake, main)

"""Join the traces of all checkpoints: alignment, drift, conditions, and the heads ranked at every stage."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from anamnesis.analyses.checkpoints.tables import heads_by_stage, labelled
from anamnesis.core.artifacts import read_parquet, write_parquet

PARTS = ("alignment", "drift", "conditions")


def main(
    traces: Sequence[str],
    initial: str,
    places: Sequence[Mapping[str, Any]],
    rank_by: str,
    alignment: str,
    drift: str,
    conditions: str,
    heads: str,
) -> dict:
    """``traces``: the files of all places, four to a place, ``causal_effects`` last. ``initial``: the ranking
    of the model before training.
    """
    frames: dict[str, list] = {}
    for path in traces:
        frames.setdefault(Path(path).stem, []).append(read_parquet(path))
    for part, output in zip(PARTS, (alignment, drift, conditions), strict=True):
        write_parquet(output, labelled(frames[part], places))
    ranking = heads_by_stage(frames["causal_effects"], places, read_parquet(initial), rank_by)
    write_parquet(heads, ranking)
    return {"places": len(places)}


if __name__ == "__main__":
    from anamnesis.core.job import run_job

    run_job(snakemake, main)

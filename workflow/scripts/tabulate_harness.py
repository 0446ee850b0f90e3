"""Write every metric of the tasks of lm-evaluation-harness, of all chains at all stages."""

from collections.abc import Mapping, Sequence


def main(found: Sequence[str], chains: Sequence[Mapping], stages: Sequence[int], table: str) -> dict:
    """``found``: the metrics at each of ``stages``, chain after chain."""
    import pandas as pd

    from anamnesis.core.artifacts import read_parquet, write_text
    from anamnesis.stats.printed import to_csv

    places = [{**chain, "stage": stage} for chain in chains for stage in stages]
    parts = [
        pd.DataFrame([place]).merge(read_parquet(path), how="cross")
        for place, path in zip(places, found, strict=True)
    ]
    rows = pd.concat(parts, ignore_index=True)
    write_text(table, to_csv(rows))
    return {"rows": len(rows)}


if __name__ == "__main__":
    from anamnesis.core.job import run_job

    run_job(snakemake, main)

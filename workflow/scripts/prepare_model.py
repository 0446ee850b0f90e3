"""Fetch the model once and write it as a safetensors snapshot."""

from pathlib import Path


def main(source: str, sha256: str | None, snapshot: str) -> dict:
    """Write the folder ``snapshot``; digests and what adapters may go to are put into the record."""
    from anamnesis.engine.exactness import check_exact
    from anamnesis.models.sources import prepare_model

    return prepare_model(source, sha256, Path(snapshot), check_exact)


if __name__ == "__main__":
    from anamnesis.core.job import run_job

    run_job(snakemake, main)

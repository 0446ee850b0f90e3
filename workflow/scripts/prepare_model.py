"""Fetch the model once and write it as a safetensors snapshot."""

from pathlib import Path


def main(source: str, sha256: str | None, snapshot: str) -> dict:
    """Write the folder ``snapshot``; the digests found go into the record."""
    from anamnesis.models.sources import prepare_model

    return prepare_model(source, sha256, Path(snapshot))


if __name__ == "__main__":
    from anamnesis.core.job import run_job

    run_job(snakemake, main)

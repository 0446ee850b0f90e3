"""Write one task as the uniform table."""

from collections.abc import Mapping
from typing import Any

from anamnesis.artifacts import digest_file, write_parquet
from anamnesis.data.sources import find_task, load_task


def main(name: str, data: Mapping[str, Any], seed: int, output: str, file: str | None = None) -> dict:
    """Write the task ``name`` to ``output``. ``data``: the section of the configuration; ``file``: the data
    file, if any.
    """
    source = find_task(name, data)
    frame = load_task(name, data, seed)
    write_parquet(output, frame)
    return {
        "task": name,
        "source": source.kind,
        "data_sha256": None if source.path is None else digest_file(source.path),
        "examples": frame["split"].value_counts(sort=False).to_dict(),
    }


if __name__ == "__main__":
    from anamnesis.job import run_job

    run_job(snakemake, main)

"""Write one task as the uniform table, and beside it the record of where its rows come from."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from anamnesis.artifacts import digest_file, provenance, write_json, write_parquet
from anamnesis.data.sources import find_task, load_task


def main(name: str, data: Mapping[str, Any], seed: int, output: str, record: str) -> None:
    """Write ``output`` (parquet) and ``record`` (JSON) for the task ``name``.

    ``data`` is the section ``data`` of the configuration. Raises UserError for an unknown task or a bad file.
    """
    started = time.time()
    source = find_task(name, data)
    frame = load_task(name, data, seed)
    write_parquet(output, frame)
    facts = {
        "task": name,
        "seed": seed,
        "source": source.kind,
        "file": None if source.path is None else str(source.path),
        "sha256": None if source.path is None else digest_file(source.path),
        "examples": frame["split"].value_counts(sort=False).to_dict(),
    }
    write_json(record, provenance(started, **facts))


if __name__ == "__main__":
    from anamnesis.job import run_job

    run_job(snakemake, main)

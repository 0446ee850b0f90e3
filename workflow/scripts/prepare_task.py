"""Write one task as the uniform table."""

from collections.abc import Mapping, Sequence
from typing import Any


def main(
    name: str,
    data: Mapping[str, Any],
    seed: int,
    output: str,
    pins: str | None = None,
    file: Sequence[str] = (),
    published: Mapping[str, Any] | None = None,
) -> dict:
    """Write the task ``name`` to ``output``. ``data``: the section of the configuration; ``pins``: the file
    of commits that the hub's first use pinned. The rule depends on ``file`` (the data files) and on
    ``published`` (the entry in the catalogue), which ``data.preparation.prepare`` finds itself.
    """
    from anamnesis.core.artifacts import digest_file, write_parquet
    from anamnesis.data.preparation import prepare
    from anamnesis.data.task_rows import TYPES

    found = prepare(name, data, seed, pins)
    write_parquet(output, found.frame, TYPES)
    digests = [digest_file(path) for path in found.source.files]
    return {
        "task": name,
        "source": found.source.kind,
        "data_sha256": digests[0] if len(digests) == 1 else digests or None,
        "commit": found.commit,
        "examples": found.frame["split"].value_counts(sort=False).to_dict(),
        "dropped": found.dropped,
        "noted": found.noted,
    }


if __name__ == "__main__":
    from anamnesis.core.job import run_job

    run_job(snakemake, main)

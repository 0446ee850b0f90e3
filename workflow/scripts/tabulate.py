"""Make the tables of an analysis, which says with which function."""

from collections.abc import Mapping, Sequence
from pkgutil import resolve_name


def main(call: str, inputs: Mapping[str, bool], outputs: Sequence[str], **arguments) -> dict | None:
    """``call``: "module:function", given what is in the files ``inputs`` (whether each is a list), and the
    other params; it returns what is to be written to ``outputs`` and, maybe, ``facts`` for the record.
    """
    from anamnesis.core.steps import loaded, store_all

    paths = {name: arguments.pop(name) for name in outputs}
    made = resolve_name(call)(**loaded(arguments, inputs))
    for name, path in paths.items():
        store_all(path, made[name])
    return made.get("facts")


if __name__ == "__main__":
    from anamnesis.core.job import run_job

    run_job(snakemake, main)

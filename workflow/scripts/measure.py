"""Measure a model for an analysis, which says with which function."""

from pkgutil import resolve_name


def main(call: str, **arguments) -> dict | None:
    """``call``: "module:function", given the files, params and resources of the rule."""
    return resolve_name(call)(**arguments)


if __name__ == "__main__":
    from anamnesis.core.job import run_job

    run_job(snakemake, main)

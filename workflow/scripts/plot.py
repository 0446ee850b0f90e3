"""Draw a figure: PDF, PNG, the data shown as CSV, and texts that go with it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from pkgutil import resolve_name


def main(
    call: str,
    inputs: Mapping[str, bool],
    caption: str,
    pdf: str,
    png: str,
    csv: str,
    texts: Sequence[str] = (),
    **arguments,
) -> None:
    """``call``: "module:function", given what is in the tables ``inputs`` (whether each is a list), and the
    other params; it returns ``figures.style.Drawn``. ``caption`` is for Snakemake's report.
    """
    from anamnesis.core.steps import loaded, store_all
    from anamnesis.figures.style import save_figure

    drawn = resolve_name(call)(**loaded(arguments, inputs))
    save_figure(drawn.figure, drawn.data, Path(pdf).with_suffix(""))
    store_all(texts, drawn.texts)


if __name__ == "__main__":
    from anamnesis.core.job import run_job

    run_job(snakemake, main)

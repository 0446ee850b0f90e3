"""Tasks composed of two others: what a selection picks, put into another language by a translation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from anamnesis.data.files import RawRow


def compose(selection: Sequence[RawRow], translation: Sequence[RawRow]) -> tuple[list[RawRow], list[RawRow]]:
    """(the rows of ``selection`` with their targets translated, those that the translation does not cover).

    Splits are those of the selection; the pairs of all splits of the translation serve as its dictionary, in
    which the first of several translations counts. Choices go, as they are not translated.
    """
    dictionary: Mapping[str, str] = {row.text("input"): row.text("target") for row in reversed(translation)}
    composed, left_out = [], []
    for row in selection:
        found = dictionary.get(row.text("target"))
        if found is None:
            left_out.append(row)
        else:
            composed.append(
                replace(row, values={**row.values, "target": found, "choices": None, "label": None})
            )
    return composed, left_out

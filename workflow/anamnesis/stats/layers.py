"""The layer after which a vector is added or removed: chosen on validation examples, so that accuracy on test
examples at that layer is not the best of many tries. No torch.
"""

from __future__ import annotations

import pandas as pd

from anamnesis.core.errors import UserError


def best_layer(accuracy: pd.DataFrame, condition: str = "add") -> int:
    """The layer where adding (``add``) gives the highest, or removing (``remove``) the lowest mean accuracy
    on validation examples; of equal layers the first in the table.

    ``accuracy``: rows ``split, condition, layer, accuracy`` of one set. Raises UserError where none of them
    is of validation examples.
    """
    rows = accuracy[(accuracy["split"] == "validation") & (accuracy["condition"] == condition)]
    if rows.empty:
        raise UserError(
            f"condition '{condition}' has no accuracy on validation examples, on which its layer is chosen: "
            "make the table of interventions again"
        )
    mean = rows.groupby("layer", sort=False)["accuracy"].mean()
    return int(mean.idxmax() if condition == "add" else mean.idxmin())


def chosen_layers(table: pd.DataFrame, condition: str = "add") -> pd.Series:
    """:func:`best_layer` of every set that was tried under ``condition``, by the set's name.

    ``table``: the rows of all sets, with the column ``set``.
    """
    tried = table[table["condition"] == condition].groupby("set", sort=False)
    layers = {name: best_layer(rows, condition) for name, rows in tried}
    return pd.Series(layers, name="layer", dtype="int64")

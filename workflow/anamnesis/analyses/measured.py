"""Tables of checkpoints below each other. No torch.

A place is ``method, order, seed, stage``; stage 0, the model before training, stands in every chain.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

CHAIN = ["method", "order", "seed"]
PLACE = [*CHAIN, "stage"]


def labelled(frames: Sequence[pd.DataFrame], places: Sequence[Mapping]) -> pd.DataFrame:
    """Frames below each other, each with its place (a mapping with the keys ``PLACE``) in front."""
    parts = [
        pd.DataFrame({key: place[key] for key in PLACE}, index=frame.index).join(frame)
        for frame, place in zip(frames, places, strict=True)
    ]
    return pd.concat(parts, ignore_index=True)


def join(parts: Sequence[pd.DataFrame], places: Sequence[Mapping] = ()) -> dict[str, pd.DataFrame]:
    """The ``table`` of all ``parts``, with their places where there are any."""
    return {"table": labelled(parts, places) if places else pd.concat(parts, ignore_index=True)}

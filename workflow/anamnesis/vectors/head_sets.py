"""Sets of heads as JSON, for other tools and from them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from anamnesis.core.artifacts import write_json
from anamnesis.core.errors import UserError, first_line, show_value


def head_records(ranking: pd.DataFrame) -> list[dict[str, Any]]:
    """The selected heads of a ranking (``ranking.rank_heads``), best first: rank, layer, head, effect."""
    chosen = ranking[ranking["selected"]]
    return [
        {"rank": int(rank), "layer": int(layer), "head": int(head), "effect": float(effect)}
        for rank, layer, head, effect in chosen[["rank", "layer", "head", "effect"]].itertuples(index=False)
    ]


def write_heads(path: str | Path, ranking: pd.DataFrame) -> None:
    """Write the selected heads of a ranking as ``{"heads": [{"rank", "layer", "head", "effect"}, …]}``."""
    write_json(path, {"heads": head_records(ranking)})


def read_heads(path: str | Path) -> list[tuple[int, int]]:
    """(layer, head), both from 0, of every head that a JSON file lists, in its order.

    The list is all of the file or stands under its key ``heads``; a head is an object with ``layer`` and
    ``head``, or a list that begins with both. Raises UserError for anything else.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({first_line(error)}): give a JSON file of heads") from error
    listed = content.get("heads") if isinstance(content, Mapping) else content
    if not isinstance(listed, list) or not listed:
        raise UserError(
            f"{path} lists no heads: give [[layer, head], …] or {{'heads': [{{'layer': …, 'head': …}}, …]}}"
        )
    return list(_pairs(path, listed))


def _pairs(path: str | Path, listed: list) -> Iterator[tuple[int, int]]:
    for item in listed:
        pair = [item.get("layer"), item.get("head")] if isinstance(item, Mapping) else item
        two = pair[:2] if isinstance(pair, list) else []
        if len(two) < 2 or not all(type(number) is int and number >= 0 for number in two):
            raise UserError(
                f"{path} lists {show_value(item)}, which is no head: give layer and head, integers from 0"
            )
        yield two[0], two[1]

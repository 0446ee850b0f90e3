"""Sections on top of each other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def merge(base: Mapping[str, Any], overriding: Mapping[str, Any]) -> dict[str, Any]:
    """``base`` with ``overriding`` on top, section by section; lists are replaced whole."""
    merged = dict(base)
    for key, value in overriding.items():
        old = merged.get(key)
        nested = isinstance(old, Mapping) and isinstance(value, Mapping)
        merged[key] = merge(old, value) if nested else value
    return merged

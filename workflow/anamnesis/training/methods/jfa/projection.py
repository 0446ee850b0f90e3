"""Two gradients made one without either undoing the other."""

from __future__ import annotations

from collections.abc import Callable

import torch

Gradient = list[torch.Tensor]  # one tensor per parameter


def inner(a: Gradient, b: Gradient) -> float:
    """The inner product over all parameters."""
    return float(sum(torch.sum(x.double() * y.double()) for x, y in zip(a, b, strict=True)))


def away_from(a: Gradient, b: Gradient) -> Gradient:
    """``a`` without its part against ``b``: unchanged unless their inner product is negative."""
    product = inner(a, b)
    if product >= 0:
        return a
    share = product / inner(b, b)
    return [x - share * y for x, y in zip(a, b, strict=True)]


def pcgrad(new: Gradient, protected: Gradient) -> Gradient:
    """PCGrad (arXiv 2001.06782): the sum of both, each first projected onto the normal plane of the other as
    it was.
    """
    return _sum(away_from(new, protected), away_from(protected, new))


def agem(new: Gradient, protected: Gradient) -> Gradient:
    """As A-GEM (arXiv 1812.00420), only the new task's gradient gives way; the other is added whole."""
    return _sum(away_from(new, protected), protected)


def released(new: Gradient, protected: Gradient) -> Gradient:
    """As the code released with arXiv 2505.15467, which does not clear gradients between two losses: the
    second is the sum of both. Their projections are averaged.
    """
    both = _sum(new, protected)
    return [x / 2 for x in pcgrad(new, both)]


def _sum(a: Gradient, b: Gradient) -> Gradient:
    return [x + y for x, y in zip(a, b, strict=True)]


PROJECTIONS: dict[str, Callable[[Gradient, Gradient], Gradient]] = {
    "pcgrad": pcgrad,
    "agem": agem,
    "released": released,
    "none": _sum,
}

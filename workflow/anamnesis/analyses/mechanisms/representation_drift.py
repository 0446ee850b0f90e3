"""Drift of representations: how alike two sets of hidden states of the same examples are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from anamnesis.analyses.mechanisms.columns import DRIFT, EVERY

LEAST = 4  # examples that the unbiased estimate needs


def linear_cka(x: np.ndarray, y: np.ndarray) -> float:
    """Linear centred kernel alignment of x (n, d) and y (n, e), rows the same examples: 1 for equal up to
    rotation, scale and shift.

    The unbiased form (Nguyen et al., arXiv 2010.15327, eq. 3; Song et al. 2012): the plain one
    (Kornblith et al., arXiv 1905.00414) is far too high for fewer examples than dimensions. It may be
    slightly below 0. NaN for fewer than ``LEAST`` examples or states that do not differ.
    """
    k, l = (_without_diagonal(z.astype(np.float64)) for z in (x, y))  # noqa: E741
    if len(k) < LEAST:
        return float("nan")
    scale = _hsic(k, k) * _hsic(l, l)
    return float(_hsic(k, l) / np.sqrt(scale)) if scale > 0 else float("nan")


def _without_diagonal(z: np.ndarray) -> np.ndarray:
    z = z - z.mean(0)  # changes nothing but the rounding
    gram = z @ z.T
    np.fill_diagonal(gram, 0.0)
    return gram


def _hsic(k: np.ndarray, l: np.ndarray) -> float:  # noqa: E741
    """Unbiased Hilbert-Schmidt independence criterion, times n (n − 3), of Gram matrices without diagonal."""
    n = len(k)
    return (k * l).sum() + k.sum() * l.sum() / ((n - 1) * (n - 2)) - 2 / (n - 2) * (k.sum(0) @ l.sum(0))


def rotation(x: np.ndarray, y: np.ndarray, size: int) -> float:
    """Mean principal angle, in degrees, between the spans of the first ``size`` principal components of x and
    y (n, d): 0 for the same subspace, 90 for subspaces at right angles.
    """
    bases = [_principal(z.astype(np.float64), size) for z in (x, y)]
    cosines = np.linalg.svd(bases[0] @ bases[1].T, compute_uv=False)
    return float(np.degrees(np.arccos(np.clip(cosines, -1.0, 1.0))).mean())


def _principal(z: np.ndarray, size: int) -> np.ndarray:
    """(size, d) orthonormal directions of largest variance."""
    return np.linalg.svd(z - z.mean(0), full_matrices=False)[2][:size]


def drift_frame(before: np.ndarray, now: np.ndarray, names: Sequence[str], size: int) -> pd.DataFrame:
    """Per layer the CKA of each set and, for all sets together, CKA and rotation (:data:`tables.DRIFT`).

    ``before``, ``now``: (n_layers, N, hidden_size); ``names``: the set of each example.
    """
    names = np.asarray(names)
    rows = []
    for layer, (x, y) in enumerate(zip(before, now, strict=True)):
        for name in dict.fromkeys(names):
            here = names == name
            rows.append((name, layer, linear_cka(x[here], y[here]), float("nan"), 0, int(here.sum())))
        used = min(size, len(x) - 1, x.shape[1])
        rows.append((EVERY, layer, linear_cka(x, y), rotation(x, y, used), used, len(x)))
    return pd.DataFrame(rows, columns=list(DRIFT))

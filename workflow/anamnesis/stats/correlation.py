"""Correlations of few points, with their bootstrap intervals. No torch."""

from __future__ import annotations

import numpy as np
from scipy import stats

LEAST = 4  # points of which a correlation is computed


def correlation(
    x: np.ndarray, y: np.ndarray, ranked: bool, resamples: int, confidence: float, seed: int = 0
) -> tuple[float, float, float]:
    """(correlation, lower and upper end of its percentile bootstrap interval): Spearman's if ``ranked``, else
    Pearson's.
    """
    x, y = np.round(x, 12), np.round(y, 12)  # what is equal but for rounding does not vary
    if len(x) < LEAST or np.ptp(x) == 0 or np.ptp(y) == 0:
        return (float("nan"),) * 3
    drawn = np.random.default_rng(seed).integers(0, len(x), (resamples, len(x)))
    values = _correlations(x[drawn], y[drawn], ranked)
    tail = 50 * (1 - confidence)
    low, high = np.nanpercentile(values, [tail, 100 - tail])
    return float(_correlations(x[None], y[None], ranked)[0]), float(low), float(high)


def _correlations(x: np.ndarray, y: np.ndarray, ranked: bool) -> np.ndarray:
    """Row by row; NaN where a row does not vary."""
    if ranked:
        x, y = stats.rankdata(x, axis=1), stats.rankdata(y, axis=1)
    x, y = x - x.mean(1, keepdims=True), y - y.mean(1, keepdims=True)
    norms = np.sqrt((x**2).sum(1) * (y**2).sum(1))
    return np.divide((x * y).sum(1), norms, where=norms > 1e-12, out=np.full(len(x), np.nan))

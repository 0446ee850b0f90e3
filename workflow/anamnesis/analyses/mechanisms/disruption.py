"""Heads whose attention or output changed, and experts whose load did."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from anamnesis.analyses.mechanisms.columns import ROUTING


def js_divergence(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Jensen-Shannon divergence in bits over the last axis: 0 for equal, 1 for disjoint distributions."""
    p, q = p.astype(np.float64), q.astype(np.float64)
    middle = (p + q) / 2
    return (_bits(p, middle) + _bits(q, middle)) / 2


def _bits(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    ratio = np.divide(p, q, out=np.ones_like(p), where=(p > 0) & (q > 0))
    return (p * np.log2(ratio)).sum(-1)


def output_change(before: np.ndarray, now: np.ndarray) -> np.ndarray:
    """1 − cosine over the last axis: 0 for the same direction, 1 for a right angle; 0 where one is zero."""
    before, now = before.astype(np.float64), now.astype(np.float64)
    norms = np.linalg.norm(before, axis=-1) * np.linalg.norm(now, axis=-1)
    return 1 - np.divide((before * now).sum(-1), norms, out=np.ones_like(norms), where=norms > 0)


def disruption_frame(before, now, names: Sequence[str]) -> pd.DataFrame:
    """Per set and head, means over the set's examples at the last prompt token (:data:`tables.HEADS`).

    ``before``, ``now``: (attention (n_layers, N, n_heads, longest), heads (n_layers, N, n_heads, head_dim)).
    ``attention``: JS divergence of the attention in bits; ``output``: 1 − cosine of the head's output;
    ``norm``: ratio of its norms, now over before.
    """
    attention = js_divergence(before[0], now[0])  # (n_layers, N, n_heads)
    output = output_change(before[1], now[1])
    lengths = [np.linalg.norm(x[1].astype(np.float64), axis=-1) for x in (before, now)]
    names, frames = np.asarray(names), []
    for name in dict.fromkeys(names):
        here = names == name
        means = [x[:, here].mean(1) for x in (attention, output, *lengths)]
        layers, heads = means[0].shape
        frames.append(
            pd.DataFrame(
                {
                    "set": name,
                    "layer": np.repeat(np.arange(layers), heads),
                    "head": np.tile(np.arange(heads), layers),
                    "attention": means[0].ravel(),
                    "output": means[1].ravel(),
                    "norm": np.divide(
                        means[3], means[2], where=means[2] > 0, out=np.ones_like(means[2])
                    ).ravel(),
                    "n": int(here.sum()),
                }
            )
        )
    return pd.concat(frames, ignore_index=True)


def routing_frame(before: np.ndarray | None, now: np.ndarray | None) -> pd.DataFrame:
    """JS divergence in bits of the loads (n_routers, n_experts) of experts, router by router; empty without
    experts.
    """
    if before is None or now is None:
        return pd.DataFrame(columns=list(ROUTING))
    shift = js_divergence(before, now)
    return pd.DataFrame({"router": np.arange(len(shift)), "divergence": shift, "experts": before.shape[1]})

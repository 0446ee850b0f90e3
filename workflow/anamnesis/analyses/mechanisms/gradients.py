"""Interference of tasks: do the gradients of their losses at the same weights point apart?

For a weight W and a probe p the gradient is slopes_p.T @ inputs_p (``probes.Projection``). All that is asked
for are inner products of such gradients, so one Gram matrix over probes is kept for each head of each matrix;
those of a matrix, a layer or the whole model are sums.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
import pandas as pd
import torch

from anamnesis.analyses.mechanisms.columns import EVERY, GRADIENTS, WHOLE
from anamnesis.analyses.mechanisms.probes import Observation, Projection
from anamnesis.engine.heads import HeadGeometry


def probe_gram(projections: Sequence[Projection], slices: int, of_inputs: bool) -> np.ndarray:
    """Inner products of the gradients of a weight on each pair of probes: (slices, n_probes, n_probes).

    The weight is cut into ``slices`` equal parts along its outputs, or along its inputs with ``of_inputs``
    (the output projection, whose inputs are the heads).
    """
    parts = []
    for probe in projections:
        gradient = probe.inputs.T @ probe.slopes if of_inputs else probe.slopes.T @ probe.inputs
        parts.append(gradient.reshape(slices, -1))
    stacked = torch.stack(parts, 1)  # (slices, probes, entries)
    return (stacked @ stacked.transpose(1, 2)).double().numpy()


def head_slices(geometry: HeadGeometry, projection: Projection, is_output: bool) -> int:
    """Heads of a projection: of queries and outputs all, of grouped keys and values fewer; 1 where its width
    is no whole number of heads (fused projections).
    """
    width = projection.inputs.shape[1] if is_output else projection.slopes.shape[1]
    heads, rest = divmod(width, geometry.head_dim)
    return heads if heads and not rest and geometry.n_heads % heads == 0 else 1


def grams(
    observation: Observation, geometry: HeadGeometry, outputs: Mapping[int, str]
) -> dict[tuple[int, str, int], np.ndarray]:
    """(layer, matrix, head) -> Gram matrix over probes, with the sums over heads, layers and matrices.

    ``outputs[layer]``: name of the output projection.
    """
    found: dict[tuple[int, str, int], np.ndarray] = {}
    for (layer, name), projections in observation.projections.items():
        is_output = outputs.get(layer) == name
        slices = head_slices(geometry, projections[0], is_output)
        gram = probe_gram(projections, slices, is_output)
        if slices > 1:
            found |= {(layer, name, head): gram[head] for head in range(slices)}
        total = gram.sum(0)
        for key in ((layer, name, WHOLE), (layer, EVERY, WHOLE), (WHOLE, name, WHOLE), (WHOLE, EVERY, WHOLE)):
            found[key] = found.get(key, 0.0) + total
    return found


def interference(gram: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(cosines of the mean gradients of groups of probes, shares of pairs of probes that conflict), both
    (..., n_groups, n_groups).

    ``gram`` (..., n_probes, n_probes); ``groups`` (n_probes,): the group of each probe, from 0. A pair, one
    probe of each group, conflicts when the inner product of its gradients is negative. NaN where a gradient
    vanishes.
    """
    members = np.eye(groups.max() + 1)[groups]
    mean = members / members.sum(0)
    between = mean.T @ gram @ mean
    lengths = np.sqrt(np.diagonal(between, axis1=-2, axis2=-1).clip(0))
    norms = lengths[..., :, None] * lengths[..., None, :]
    cosine = np.divide(between, norms, where=norms > 0, out=np.full_like(between, np.nan))
    return cosine, np.where(norms > 0, mean.T @ (gram < 0) @ mean, np.nan)


def interference_frame(
    found: Mapping[tuple[int, str, int], np.ndarray], names: Sequence[str]
) -> pd.DataFrame:
    """One row per pair of sets, layer, matrix and head (:data:`tables.GRADIENTS`).

    ``names``: the set of each probe.
    """
    sets = list(dict.fromkeys(names))
    groups = np.array([sets.index(name) for name in names])
    cosine, conflicts = interference(np.stack(list(found.values())), groups)
    counts, places = np.bincount(groups), list(found)
    frames = []
    for a, b in combinations(range(len(sets)), 2):
        frame = pd.DataFrame(places, columns=["layer", "matrix", "head"])
        frames.append(
            frame.assign(
                set=sets[a],
                other=sets[b],
                cosine=cosine[:, a, b],
                conflicts=conflicts[:, a, b],
                pairs=counts[a] * counts[b],
            )
        )
    return pd.concat(frames, ignore_index=True)[list(GRADIENTS)]

"""Curvature of a task's loss in some weights: largest eigenvalue and trace of the Hessian, and a slice.

Products with the Hessian are two backward passes (Pearlmutter 1994); scipy's Lanczos method does the rest.
curvlinops, the usual library for it, differentiates forwards, which torch cannot do through the activations
of most language models (silu).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import cross_entropy

from anamnesis.analyses.mechanisms.probes import Probe
from anamnesis.analyses.mechanisms.watching import LastRows
from anamnesis.engine.pack import Pack
from anamnesis.engine.prefix_engine import PrefixEngine

Loss = Callable[[], torch.Tensor]


def probe_loss(engine: PrefixEngine, probe: Probe) -> Loss:
    """The mean cross-entropy per answer token of a probe, in nats, as a function of the weights of now."""
    pack = Pack((probe.tree(),))
    rows = LastRows.of(pack, [probe.examples], max(len(e.prompt) for e in probe.examples)).answers
    wanted = torch.tensor([token for e in probe.examples for token in e.answer])

    def loss() -> torch.Tensor:
        with sdpa_kernel(SDPBackend.MATH):  # the fused kernels have no second derivative
            logits = engine.run(pack, rows).float()
        return cross_entropy(logits, wanted.to(logits.device))

    return loss


class Hessian:
    """The Hessian of ``loss`` in ``weights``, which must require gradients, known by its products."""

    def __init__(self, loss: Loss, weights: Sequence[torch.Tensor]):
        self.weights = list(weights)
        self.size = sum(w.numel() for w in self.weights)
        slopes = torch.autograd.grad(loss(), self.weights, create_graph=True)
        self.slope = torch.cat([s.flatten() for s in slopes])  # its graph is used for every product

    def product(self, vector: torch.Tensor) -> torch.Tensor:
        """H v, both (size,)."""
        found = torch.autograd.grad(self.slope, self.weights, vector.to(self.slope), retain_graph=True)
        return torch.cat([f.flatten() for f in found])

    def largest(self, tolerance: float, rng: np.random.Generator, most: int = 40) -> tuple[float, int]:
        """(largest eigenvalue to a relative ``tolerance``, products used): Lanczos from a random start.

        NaN when ``most`` restarts do not reach the tolerance.
        """
        used = 0

        def matvec(vector: np.ndarray) -> np.ndarray:
            nonlocal used
            used += 1
            return self.product(torch.from_numpy(np.ravel(vector))).detach().double().cpu().numpy()

        operator = LinearOperator((self.size, self.size), matvec=matvec, dtype=np.float64)
        start = rng.standard_normal(self.size)
        krylov = min(self.size, KRYLOV)
        try:
            (value,) = eigsh(
                operator, 1, which="LA", v0=start, tol=tolerance, ncv=krylov, maxiter=most,
                return_eigenvectors=False,
            )  # fmt: skip
        except ArpackNoConvergence:
            return float("nan"), used
        return float(value), used

    def trace(self, vectors: int, rng: np.random.Generator) -> tuple[float, float]:
        """(Hutchinson's estimate of the trace, its standard error) from ``vectors`` random signs each."""
        found = []
        for _ in range(vectors):
            signs = torch.from_numpy(rng.choice([-1.0, 1.0], self.size)).to(self.slope)
            found.append(float(signs.double() @ self.product(signs).double()))
        error = np.std(found, ddof=1) / np.sqrt(vectors) if vectors > 1 else np.nan
        return float(np.mean(found)), float(error)


KRYLOV = 8  # vectors of a Lanczos run before it restarts


def filter_direction(weights: Sequence[torch.Tensor], rng: np.random.Generator) -> list[torch.Tensor]:
    """A random direction in which every row of every matrix is as long as the row of the weight (Li et al.,
    arXiv 1712.09913), so that steps mean the same in models whose weights are scaled differently.
    """
    found = []
    for weight in weights:
        noise = torch.from_numpy(rng.standard_normal(tuple(weight.shape))).to(weight)
        length = noise.norm(dim=-1, keepdim=True)
        found.append(noise * (weight.detach().norm(dim=-1, keepdim=True) / length))
    return found


@torch.no_grad()
def loss_slice(
    loss: Loss, weights: Sequence[torch.Tensor], direction: Sequence[torch.Tensor], steps: Sequence[float]
) -> list[float]:
    """The loss at weights + step · direction for every step; the weights are left as they were."""
    start = [weight.detach().clone() for weight in weights]
    found = []
    try:
        for step in steps:
            for weight, at, way in zip(weights, start, direction, strict=True):
                weight.copy_(at + step * way)
            found.append(float(loss()))
    finally:
        for weight, at in zip(weights, start, strict=True):
            weight.copy_(at)
    return found

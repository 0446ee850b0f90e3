"""Latent tasks (arXiv 2505.15467): low-rank increments of attention output projections, of which every prompt
gets a mixture of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn.functional import normalize

from anamnesis.engine.attention import ForestLayout
from anamnesis.engine.heads import HeadGeometry
from anamnesis.engine.pack import Pack
from anamnesis.engine.prefix_engine import PrefixEngine
from anamnesis.engine.widening import WideningLayout, widened
from anamnesis.training.methods.jfa.encoder import Prompt, PromptEncoder

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from anamnesis.engine.prefix_engine import Keep

SMALLEST = 1e-6  # similarities count at least as much, so that shares are positive and sum to 1


class LatentPool(nn.Module):
    """Q slots, each a frozen key and, for each of some layers, an increment ΔW_n of the output projection.

    ``keys`` (segments, Q, width / segments); ``centre`` (width): taken off every query; ``down`` (layers, Q,
    rank, inputs) and ``up`` (layers, Q, rank, outputs), with ΔW_n x = Σ_r up_r (down_r · x). ``layers``:
    their numbers; ``nearest``: k.
    """

    keys: torch.Tensor
    centre: torch.Tensor

    def __init__(
        self,
        keys: torch.Tensor,
        centre: torch.Tensor,
        down: torch.Tensor,
        up: torch.Tensor,
        layers: Iterable[int],
        nearest: int,
    ):
        super().__init__()
        self.layers, self.nearest = tuple(layers), nearest
        self.register_buffer("keys", keys)
        self.register_buffer("centre", centre)
        self.down, self.up = nn.Parameter(down), nn.Parameter(up)

    def shares(self, queries: torch.Tensor) -> torch.Tensor:
        """(n, Q): the weights w of the slots for queries (n, width); all but k are zero and they sum to 1.

        A slot's similarity is the mean over the segments of the cosine between query and key. The k most
        similar slots share in proportion to it; one below ``SMALLEST`` counts as that.
        """
        parts = normalize((queries - self.centre).unflatten(-1, (len(self.keys), -1)), dim=-1)
        similarity = torch.einsum("nsd,sqd->nsq", parts, normalize(self.keys, dim=-1)).mean(1)
        best, slots = similarity.topk(self.nearest)
        share = best.clamp(min=SMALLEST)
        return torch.zeros_like(similarity).scatter(1, slots, share / share.sum(-1, keepdim=True))

    @contextmanager
    def added(self, geometry: HeadGeometry, shares: torch.Tensor) -> Iterator[None]:
        """Σ_n w_n ΔW_n added to the projections, with weights of its own for each token: shares (tokens, Q).

        All increments are applied at once, as one low-rank product whose middle is weighted: exact, and as
        cheap as an adapter of rank Q · r.
        """
        middle = shares.repeat_interleave(self.down.shape[2], dim=1)

        def hook_for(down: torch.Tensor, up: torch.Tensor) -> Callable:
            def hook(module: nn.Module, args: tuple, output: torch.Tensor) -> torch.Tensor:
                x = args[0].to(down.dtype)
                return output + ((x @ down.T) * middle.to(x) @ up).to(output.dtype)

            return hook

        with ExitStack() as stack:
            for layer, down, up in zip(
                self.layers, self.down.flatten(1, 2), self.up.flatten(1, 2), strict=True
            ):
                stack.callback(geometry.projections[layer].register_forward_hook(hook_for(down, up)).remove)
            yield


class LatentEngine(PrefixEngine):
    """A prefix engine in which every tree runs with the latent tasks of its prompt.

    The prompt is the prefix, the trunk and ``branch_tokens`` of the first branch: none in the evaluation, one
    in training (``Example.tree``). What a prompt retrieves depends on all of it, so prompts share no tokens
    from the first layer with latent tasks on; the answers of one prompt do. Below that layer what all prompts
    begin with runs once, unless a decoder layer or an output projection is hooked there: hooks count on all
    tokens of the pack.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        pool: LatentPool,
        encoder: PromptEncoder,
        branch_tokens: int = 0,
        geometry: HeadGeometry | None = None,
    ):
        super().__init__(model, geometry)
        self.pool, self.encoder, self.branch_tokens = pool, encoder, branch_tokens
        self._shares: dict[Prompt, torch.Tensor] = {}

    def shared(self, prompts: Sequence[Sequence[int]]) -> int:
        return 0

    def prepare(self, prompts: Sequence[Prompt]) -> None:
        """Retrieve for these prompts, once."""
        new = [prompt for prompt in dict.fromkeys(prompts) if prompt not in self._shares]
        if new:
            self.retrieve(new, self.encoder.encode(new))

    def retrieve(self, prompts: Sequence[Prompt], queries: torch.Tensor) -> None:
        """The same with what the encoder made of the prompts, (n_prompts, width)."""
        self._shares |= dict(zip(prompts, self.pool.shares(queries.to(self.pool.keys)), strict=True))

    def retrieved(self, prompts: Sequence[Prompt]) -> list[int]:
        """The slots that any of the prompts retrieves."""
        self.prepare(prompts)
        return torch.stack([self._shares[prompt] for prompt in prompts]).any(0).nonzero()[:, 0].tolist()

    def continuing(self, prompts: Sequence[Sequence[int]]) -> AbstractContextManager:
        return self._mixed([tuple(prompt) for prompt in prompts], [1] * len(prompts))

    def _forward(self, pack: Pack, chosen: ForestLayout, keep: Keep) -> torch.Tensor:
        if pack.cached is not None or pack.prefixes:
            raise ValueError("prompts with latent tasks of their own share no tokens")
        prompts = []
        for tree in pack.trees:
            rest = tree.branches[0][: self.branch_tokens] if tree.branches else ()
            prompts.append((*tree.trunk, *rest))
        with self._mixed(prompts, [tree.size for tree in pack.trees]):
            shared = self._shared_below(pack, chosen)
            if not shared:
                return super()._forward(pack, chosen, keep)
            widening = WideningLayout(chosen, shared, min(self.pool.layers))
            with widened(self.geometry, widening):
                # what a pass of plain engines asks of a layout, it has
                return super()._forward(widening.narrow, widening, keep)  # type: ignore[arg-type]

    def _shared_below(self, pack: Pack, chosen: ForestLayout) -> int:
        """How many first tokens all trees have in common that run once below the first layer with latent
        tasks.
        """
        geometry, layer = self.geometry, min(self.pool.layers)
        plain = type(chosen) is ForestLayout and len(pack.trees) > 1 and not geometry.fixed_length
        below = (*geometry.blocks[:layer], *geometry.projections[:layer])
        if not (plain and below) or any(m._forward_hooks or m._forward_pre_hooks for m in below):
            return 0
        return max(0, super().shared([tree.trunk for tree in pack.trees]))

    def _mixed(self, prompts: Sequence[Prompt], tokens: Sequence[int]) -> AbstractContextManager:
        """The latent tasks of each prompt at so many tokens of the row."""
        self.prepare(prompts)
        shares = torch.stack([self._shares[prompt] for prompt in prompts])
        each = torch.tensor(tokens, device=shares.device)
        # the number of rows is told: a device would have to be waited for to learn it
        rows = shares.repeat_interleave(each, dim=0, output_size=sum(tokens))
        return self.pool.added(self.geometry, rows)

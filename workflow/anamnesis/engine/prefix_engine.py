"""Runs packs of token trees through a decoder and returns only the logits that are asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from anamnesis.core.errors import UserError
from anamnesis.engine.attention import ForestLayout, GroupedTrees, Layout, layout
from anamnesis.engine.branch_rows import BranchingLayout, BranchRows, branch_rows_hooked, keep_rows
from anamnesis.engine.flex_attention import FlexTrees
from anamnesis.engine.heads import HeadGeometry, find_heads
from anamnesis.engine.hooks import without_scaling
from anamnesis.engine.modes import engine_mode, measuring
from anamnesis.engine.pack import Pack, Prefix, Tree, common_prefix_length
from anamnesis.models.products import fast_products

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Tokens that a shared prefix must save: a pass of a few tokens reads all weights, and so takes as long as
# about so many more tokens in a full pass.
WORTH_A_PASS = 64
ATTENTION: dict[str, type[GroupedTrees]] = {"grouped": GroupedTrees, "flex": FlexTrees}

Keep = Sequence[int] | torch.Tensor


class PrefixEngine:
    """A Hugging Face decoder that computes shared prefixes once.

    ``model`` may carry PEFT adapters; it is used as it is, in evaluation mode but for steps of training
    (``modes.training_mode``), and left as it was. Its layers may lie on several
    devices, as accelerate dispatches them. ``geometry`` tells its layers and heads. ``attention`` of trees:
    "grouped" (a call for each group of trees of like size) or "flex" (one call of FlexAttention). Raises
    UserError for a model whose attention or output projections cannot be found (see ``find_heads``),
    ValueError for another ``attention``.
    """

    def __init__(
        self, model: PreTrainedModel, geometry: HeadGeometry | None = None, attention: str = "grouped"
    ):
        if attention not in ATTENTION:
            raise ValueError(f"attention is '{attention}': choose from {', '.join(ATTENTION)}")
        self.model, self.attention = model, ATTENTION[attention]
        self.geometry = geometry or find_heads(model)

    @property
    def device(self) -> torch.device:
        """Where tokens go in: the device of the first weights."""
        return next(self.model.parameters()).device

    @property
    def divided(self) -> bool:
        """Whether what comes out of the last layer lies on another device."""
        return next(self.geometry.blocks[-1].parameters()).device != self.device

    def run(self, pack: Pack, keep: Keep, branch_rows: BranchRows | None = None) -> torch.Tensor:
        """Logits (len(keep), vocabulary) at the row indices ``keep`` of a pack.

        With ``branch_rows`` the row is followed by the born tokens, ordered (birth layer, copy, tree, token):
        see :func:`branch_row_index`. Gradients flow as the caller's grad mode says.
        """
        if branch_rows is None:
            return self._forward(pack, ForestLayout(pack, self.device, attention=self.attention), keep)
        branching = BranchingLayout(pack, branch_rows, self.device, self.attention)
        with branch_rows_hooked(self.geometry, branching):
            return self._forward_kept(self._forward, pack, branching, keep)

    def shared(self, prompts: Sequence[Sequence[int]]) -> int:
        """How many first tokens of all prompts may run once; every prompt keeps one or more of its own."""
        return min(common_prefix_length(prompts), min(map(len, prompts), default=1) - 1)

    def continuing(self, prompts: Sequence[Sequence[int]]) -> AbstractContextManager:
        """A context in which the model runs one further token of each prompt, in a row."""
        return nullcontext()

    def worth_sharing(self, prompts: Sequence[Sequence[int]]) -> int:
        """How many first tokens of all prompts to run once; 0 where that would save too little."""
        shared = self.shared(prompts)
        return shared if shared * (len(prompts) - 1) >= WORTH_A_PASS else 0

    def beginning(self, prompts: Sequence[Sequence[int]]) -> Prefix | None:
        """Keys and values of what all prompts begin with; None where that would save too little."""
        shared = self.worth_sharing(prompts)
        return self.prefill(prompts[0][:shared]) if shared else None

    @measuring
    def prefill(self, tokens: Sequence[int]) -> Prefix | None:
        """Keys and values of a shared prefix (None for an empty one)."""
        if not len(tokens):
            return None
        _, recorded = self.run_recorded(Pack((Tree(tokens),)), keep=[0])
        return Prefix(tuple(recorded.keys), tuple(recorded.values))

    def run_recorded(self, pack: Pack, keep: Keep) -> tuple[torch.Tensor, ForestLayout]:
        """As ``run``, and the layout that recorded each layer's keys and values (n_kv_heads, n_tokens,
        head_dim).
        """
        recorded = ForestLayout(pack, self.device, record=True, attention=self.attention)
        return self._forward(pack, recorded, keep), recorded

    def run_in(self, pack: Pack, chosen: ForestLayout, keep: Keep) -> torch.Tensor:
        """As ``run``, in a layout of the caller's own, which may watch what it is given."""
        return self._forward(pack, chosen, keep)

    def _forward_kept(self, forward: Callable, pack: Pack, chosen: Layout, keep: Keep) -> torch.Tensor:
        """``forward``, for rows that a model cannot be asked for by itself: of a grown row, or on another
        device.
        """
        keep = torch.as_tensor(keep, dtype=torch.long).to(self.device)
        with keep_rows(self.geometry, keep, pack.size):
            return forward(pack, chosen, keep=0)[: len(keep)]

    def _forward(self, pack: Pack, chosen: ForestLayout, keep: Keep) -> torch.Tensor:
        if not isinstance(keep, int):
            if self.divided:
                # Call the base method: the subclass's override is already on the stack.
                return self._forward_kept(partial(PrefixEngine._forward, self), pack, chosen, keep)
            keep = torch.as_tensor(keep, dtype=torch.long).to(self.device)
        longest = int(pack.positions.max()) + 1
        tokens = pack.tokens.to(self.device)
        return self.call(tokens, pack.positions, longest, chosen, logits_to_keep=keep)

    def call(
        self, tokens: torch.Tensor, positions: torch.Tensor, longest: int, chosen: Layout, **options: Any
    ) -> torch.Tensor:
        """Logits (N, vocabulary) of a row of tokens (N,) at ``positions`` (N,) of their texts, in a layout.

        ``longest``: tokens of the longest text, which the device need not be asked for; ``options``: of the
        model. Raises UserError for a text that is longer than the geometry's reach.
        """
        reach = self.geometry.reach
        if reach is not None and longest > reach.tokens:
            raise UserError(
                f"a text has {longest} tokens, but {type(self.model).__name__} takes {reach.tokens} at most "
                f"({reach.why}): lower training.max_input_tokens, vectors.shots or evaluation.shots"
            )
        scaling = without_scaling(self.geometry.scaled)
        with layout(self.model, chosen) as calls, scaling, engine_mode(self.model), fast_products():
            output = self.model(
                input_ids=tokens[None],
                position_ids=positions[None].to(self.device),
                use_cache=False,
                **options,
            )
        if len(calls) != self.geometry.n_layers:
            raise UserError(
                f"{type(self.model).__name__}: {len(calls)} of {self.geometry.n_layers} layers used the "
                f"shared-prefix "
                "attention: use a model whose layers all go through transformers' attention interface"
            )
        return output.logits.flatten(0, 1)


def branch_row_index(pack: Pack, branch_rows: BranchRows) -> torch.Tensor:
    """Row indices of the born tokens, (n_birth_layers, copies, n_trees, m)."""
    m = len(pack.trees[0].branches[0])
    shape = (len(branch_rows.layers), branch_rows.copies, len(pack.trees), m)
    return pack.size + torch.arange(torch.Size(shape).numel()).view(shape)

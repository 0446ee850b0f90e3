"""Whether the engine computes a model as plain forward passes do: measured, as no list would stay right.

Every number of a study depends on it, so a model is measured when it is prepared and refused if it differs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import torch

from anamnesis.core.errors import UserError, first_line
from anamnesis.engine.attention import HALF
from anamnesis.engine.branch_rows import BranchRows
from anamnesis.engine.generation import Request, generate
from anamnesis.engine.hooks import captured_heads
from anamnesis.engine.likelihood import token_log_probabilities
from anamnesis.engine.modes import measuring
from anamnesis.engine.pack import Pack, Tree
from anamnesis.engine.prefix_engine import PrefixEngine, branch_row_index

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Shares of the largest logit that rounding may make up. In half precision a token may go to other experts.
TOLERANCE = {torch.float64: 1e-5, torch.float32: 1e-3, torch.float16: 0.25, torch.bfloat16: 0.25}
LENGTHS = (5, 4, 6, 3, 9)
"""Tokens of a prefix, a trunk, its two branches, and another text."""


def check_exact(model: PreTrainedModel, lengths: Sequence[int] = LENGTHS) -> float:
    """The largest deviation of the engine from plain forward passes of ``model``, as a share of the largest
    logit. Raises UserError for a model that the engine does not cover, or computes otherwise.
    """
    try:
        found = deviations(PrefixEngine(model), lengths)
    except UserError:
        raise
    except Exception as error:  # of the model's own code, which wants something that no text has
        raise UserError(
            f"{type(model).__name__} does not run on the tokens of texts alone, or not in the prefix engine "
            f"({first_line(error)}): use a decoder-only language model"
        ) from error
    worst = max(found, key=found.__getitem__)
    if not found[worst] <= TOLERANCE[next(model.parameters()).dtype]:  # nor where it is no number
        raise UserError(
            f"{type(model).__name__}: the prefix engine differs from plain forward passes by "
            f"{found[worst]:.2g} of the largest logit ({worst}), so that no result would be right: use "
            "another model"
        )
    return found[worst]


@measuring
def deviations(engine: PrefixEngine, lengths: Sequence[int] = LENGTHS) -> dict[str, float]:
    """What the engine does -> its largest deviation from plain forward passes on random tokens, as a share of
    the largest logit; in half precision the median over tokens.
    """
    return Comparison(engine, lengths).found()


class Comparison:
    """The same few texts in the engine and in plain forward passes."""

    def __init__(self, engine: PrefixEngine, lengths: Sequence[int]):
        self.engine, self.model, self.geometry = engine, engine.model, engine.geometry
        size = next(self.model.get_input_embeddings().parameters()).shape[0]
        drawn = torch.randint(3, size, (sum(lengths),), generator=torch.Generator().manual_seed(0))
        self.prefix, self.trunk, *self.branches, self.other = (part.tolist() for part in drawn.split(lengths))
        self.prompt = [*self.prefix, *self.trunk]
        self.texts = [[*self.prompt, *branch] for branch in self.branches]

    def found(self) -> dict[str, float]:
        with plain_attention(self.model):
            wanted = [self.plain(text) for text in (*self.texts, self.other)]
            heads = self.plain_heads()
            patched = self.plain_patched()
        return {
            "packs": self.packs(wanted),
            "prefixes and branches": self.after_prefix(wanted),
            "log-probabilities": self.likelihood(wanted),
            "outputs of heads": self.heads(heads),
            "patched heads": self.patched(patched),
            "generation": self.generation(),
        }

    def plain(self, text: Sequence[int]) -> torch.Tensor:
        ids = torch.tensor([text], device=self.engine.device)
        return self.model(input_ids=ids, use_cache=False).logits[0]

    def packs(self, wanted: Sequence[torch.Tensor]) -> float:
        first, second = self.branches
        pack = Pack((Tree(self.other), Tree(self.prompt, [first, second]), Tree(self.other)))
        rows = self.engine.run(pack, range(pack.size))
        n, end = len(self.other), len(self.prompt)
        parts = [(rows[:n], wanted[2]), (rows[-n:], wanted[2])]
        parts += self._paths(rows[n:-n], wanted, end)
        return max(apart(*part) for part in parts)

    def after_prefix(self, wanted: Sequence[torch.Tensor]) -> float:
        pack = Pack((Tree(self.trunk, self.branches),), self.engine.prefill(self.prefix))
        rows = self.engine.run(pack, range(pack.size))
        parts = self._paths(rows, [w[len(self.prefix) :] for w in wanted], len(self.trunk))
        return max(apart(*part) for part in parts)

    def _paths(
        self, rows: torch.Tensor, wanted: Sequence[torch.Tensor], trunk: int
    ) -> list[tuple[torch.Tensor, torch.Tensor]]:
        end = trunk + len(self.branches[0])
        return [
            (rows[:end], wanted[0]),
            (torch.cat([rows[:trunk], rows[end:]]), wanted[1]),
        ]

    def likelihood(self, wanted: Sequence[torch.Tensor]) -> float:
        pack, text = Pack((Tree(self.other),)), torch.tensor(self.other[1:])
        steps = torch.arange(len(text))
        for _ in range(2):  # the first pass learns whether the head can be applied in chunks
            found, _ = token_log_probabilities(self.engine, pack, steps.tolist(), steps, text)
        expected = wanted[2][:-1].double().log_softmax(-1).cpu().gather(1, text[:, None])[:, 0]
        return over_tokens((found - expected).abs() / wanted[2].abs().max().double().cpu(), wanted[2].dtype)

    def plain_heads(self) -> list[torch.Tensor]:
        with captured_heads(self.geometry, [len(self.texts[0]) - 1]) as seen:
            self.plain(self.texts[0])
        return list(seen)

    def heads(self, wanted: Sequence[torch.Tensor]) -> float:
        pack = Pack((Tree(self.trunk, self.branches[:1]),), self.engine.prefill(self.prefix))
        with captured_heads(self.geometry, [pack.size - 1]) as seen:
            self.engine.run(pack, [0])
        shares = [apart(*pair) for pair in zip(seen, wanted, strict=True)]
        return over_tokens(torch.tensor(shares), seen[0].dtype)

    @property
    def layers(self) -> list[int]:
        return sorted({0, self.geometry.n_layers // 2, self.geometry.n_layers - 1})

    def plain_patched(self) -> list[torch.Tensor]:
        """Logits after the prompt, with the last head of each of ``layers`` silenced at its last token."""
        size, found = self.geometry.head_dim, []

        def silence(module: torch.nn.Module, args: tuple) -> tuple:
            x = args[0].clone()
            x[0, len(self.prompt) - 1, -size:] = 0
            return (x, *args[1:])

        for layer in self.layers:
            handle = self.geometry.projections[layer].register_forward_pre_hook(silence)
            try:
                found.append(self.plain(self.texts[0])[len(self.prompt) - 1 :])
            finally:
                handle.remove()
        return found

    def patched(self, wanted: Sequence[torch.Tensor]) -> float:
        def silence(layer: int, x: torch.Tensor) -> torch.Tensor:
            x = x.clone()
            x[:, :, -1] = 0
            return x

        tree = Tree(self.trunk[:-1], [[self.trunk[-1], *self.branches[0]]])
        pack = Pack((tree,), self.engine.prefill(self.prefix))
        rows = BranchRows(1, self.layers, "heads", silence)
        index = branch_row_index(pack, rows)
        found = self.engine.run(pack, index.flatten(), rows).unflatten(0, index.shape)[:, 0, 0]
        return max(apart(*pair) for pair in zip(found, wanted, strict=True))

    def generation(self) -> float:
        """By how much the tokens that are generated fall short of the likeliest ones."""
        prompts, short = [self.prompt, self.other], []
        (answers,) = generate(self.engine, [Request(prompts, 3)], lambda ids: False, 10**6)
        with plain_attention(self.model):
            for prompt, answer in zip(prompts, answers, strict=True):
                rows = self.plain([*prompt, *answer])[len(prompt) - 1 : -1]
                chosen = rows.gather(1, torch.tensor(answer, device=rows.device)[:, None])[:, 0]
                short.append((rows.amax(-1) - chosen) / rows.abs().amax())
        return over_tokens(torch.cat(short), rows.dtype)


def apart(found: torch.Tensor, wanted: torch.Tensor) -> float:
    """Largest difference of a token as a share of the largest entry, over tokens as ``over_tokens`` says."""
    shares = (found - wanted).abs().flatten(1).amax(-1) / wanted.abs().max()
    return over_tokens(shares, found.dtype)


def over_tokens(shares: torch.Tensor, dtype: torch.dtype) -> float:
    """The largest, in half precision the median: rounding may send single tokens (or layers) elsewhere."""
    return float(shares.median() if dtype in HALF else shares.max())


@contextmanager
def plain_attention(model: PreTrainedModel) -> Iterator[None]:
    """Attention written out, where the model has it: faster functions leave out what they do not know."""
    before = model.config._attn_implementation
    with suppress(ValueError):
        model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(before)

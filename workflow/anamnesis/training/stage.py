"""What a training method knows of the stage it is used in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from anamnesis.data.prompts import generator
from anamnesis.engine.examples import Example
from anamnesis.engine.prefix_engine import PrefixEngine
from anamnesis.training.reference import Change, Reference, Start
from anamnesis.training.world import ALONE, World

if TYPE_CHECKING:
    import numpy as np
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Stage:
    """One stage of a chain, before training begins.

    ``number``: 1 for the first; ``examples``: of the new task; ``past``: training examples (``new`` False) of
    the tasks learnt before, in their order, for methods that may see them, and then of the sets whose prompts
    the method asks for; ``earlier``: the adapter folders of the stages before; ``settings``: the method's own
    section of the configuration, ``training`` the common one; ``selected``: the head set S; ``theta``
    (hidden_size): the new task's instruction vector; ``snapshot``: the folder of the model before training;
    ``world``: the processes that train the stage together; ``seen``: the examples that this process trains
    on (None: all); ``chain_seed``: the same in all stages; ``task``: the name of the new task.
    """

    engine: PrefixEngine
    tokenizer: PreTrainedTokenizerBase
    number: int
    examples: Sequence[Example]
    settings: Mapping
    training: Mapping
    seed: int
    batch_tokens: int
    past: Mapping[str, Sequence[Example]] = field(default_factory=dict)
    earlier: Sequence[Path] = ()
    selected: Sequence[tuple[int, int]] = ()
    theta: torch.Tensor | None = None
    snapshot: Path | None = None
    world: World = ALONE
    seen: Sequence[Example] | None = None
    chain_seed: int = 0
    task: str = ""

    @cached_property
    def start(self) -> Start:
        """The trainable weights before the stage. Ask for it before they change."""
        return Start(self.engine.model)

    @property
    def trainable(self) -> dict[str, torch.nn.Parameter]:
        return {n: p for n, p in self.engine.model.named_parameters() if p.requires_grad}

    def reference(
        self,
        change: Change | None = None,
        logits: bool = True,
        heads: bool = False,
        start: Start | None = None,
    ) -> Reference:
        """The model before the stage, or the one with the weights ``start``, as a teacher on the new task's
        examples (``Reference.prepare``).
        """
        made = Reference(self.engine, start or self.start, self.batch_tokens, change)
        return made.prepare(self.examples if self.seen is None else self.seen, logits, heads)

    def random(self, *names: str) -> np.random.Generator:
        """A numpy generator of its own for each purpose."""
        return generator(self.seed, *names)


def per_stage(value: float | Sequence[float], number: int) -> float:
    """A stage's value of a setting that is one number, or a list with one for each stage."""
    return value if isinstance(value, int | float) else value[number - 1]

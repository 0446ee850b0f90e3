"""Heads, causal effects and instruction vectors of tasks, in a model that is in memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pandas as pd
import torch

from anamnesis.core.artifacts import digest_json
from anamnesis.core.errors import UserError, show_value, unknown
from anamnesis.data.chat import template_for
from anamnesis.data.encoding import encode, encode_pairs
from anamnesis.data.prompts import Template
from anamnesis.data.text import normal_form
from anamnesis.engine.generation import Request, generate
from anamnesis.engine.hooks import added_to_residual
from anamnesis.engine.line_end import LineEnd
from anamnesis.engine.prefix_engine import PrefixEngine
from anamnesis.engine.scoring import Question
from anamnesis.study.inputs import head_list, pair_list, whole_number, whole_numbers
from anamnesis.study.maps import COLUMN, Effects
from anamnesis.study.measuring import chosen_heads, measured
from anamnesis.study.steering import Positions, steered
from anamnesis.vectors.activations import MeanActivations
from anamnesis.vectors.icl import PromptPlan, build_prompts
from anamnesis.vectors.instruction import instruction_vector, selected_heads

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Pairs = Sequence[tuple[str, str]]
PLAIN = Template()
ALONE = "pairs"  # the name of a task that is given without one


@dataclass(frozen=True)
class Study:
    """What was found in a model for one task or several.

    ``heads``: all heads by their mean effect over tasks (``vectors.ranking.rank_heads``) with its 95 %
    interval ``low, high``; those that are ``selected`` are shared by all tasks. By the task's name:
    ``vectors``, θ (hidden_size,) float32, the sum of what the selected heads add to the residual stream;
    ``activations``, the means behind them; ``tables``, an effect for each prompt and head; ``prompts``, what
    they were measured on; ``instructions``. ``rank_by``: the scale of effects; ``data`` and ``model``: the
    digests of the tasks and of the model that all of this was found in, which need not be that of ``engine``
    (:meth:`on`).
    """

    engine: PrefixEngine
    tokenizer: PreTrainedTokenizerBase
    template: Template
    instructions: Mapping[str, str | None]
    prompts: Mapping[str, pd.DataFrame]
    activations: Mapping[str, MeanActivations]
    tables: Mapping[str, pd.DataFrame]
    heads: pd.DataFrame
    vectors: Mapping[str, torch.Tensor]
    rank_by: str
    data: str
    model: str

    def __post_init__(self) -> None:
        geometry, task = self.engine.geometry, self._task(next(iter(self.prompts)))
        mine = (*self.activations[task].mean.shape, len(self.vectors[task]))
        model = (geometry.n_layers, geometry.n_heads, geometry.head_dim, geometry.hidden_size)
        if mine != model:
            raise UserError(
                f"the study is of a model with (layers, heads, head size, hidden size) {mine}, this one has "
                f"{model}: give a model of the same shape"
            )

    @property
    def vector(self) -> torch.Tensor:
        """The vector of a study of one task."""
        return self.vectors[self._task(None)]

    @property
    def effects(self) -> Effects:
        """Causal effects of all tasks as an array (prompt, layer, head)."""
        return Effects(self.tables, self.rank_by)

    def steered(
        self,
        layers: int | Sequence[int],
        scale: float = 1.0,
        positions: Positions = "all",
        task: str | None = None,
    ) -> AbstractContextManager[None]:
        """The context of :func:`anamnesis.study.steered` with the vector of ``task``."""
        return steered(self.engine.model, self.vectors[self._task(task)], layers, scale, positions)

    def answer(
        self,
        query: str,
        layers: int | Sequence[int] = (),
        scale: float = 1.0,
        task: str | None = None,
        max_new_tokens: int = 12,
    ) -> str:
        """The zero-shot answer to ``query``, its first line; greedy. The task's vector, times ``scale``, is
        added after each of ``layers`` at the last prompt token.

        Raises UserError for a layer the model does not have.
        """
        task, geometry = self._task(task), self.engine.geometry
        chosen = whole_numbers("layers", layers)
        longest = whole_number("max_new_tokens", max_new_tokens, 1)
        for layer in chosen:
            geometry.check_head(layer, 0)

        def change(rows: list[int]) -> ExitStack:
            stack = ExitStack()
            for layer in chosen:
                stack.enter_context(added_to_residual(geometry, layer, scale * self.vectors[task], rows))
            return stack

        text = self.template.render(self.instructions[task], [], normal_form(query))
        (prompt,) = encode(self.tokenizer, [text])
        stop = LineEnd(self.tokenizer)
        ((ids,),) = generate(self.engine, [Request([prompt], longest, change)], stop, len(prompt))
        return stop.text(ids)

    def on(self, model: PreTrainedModel) -> Study:
        """The same vectors in another model of the same shape: one with an adapter, or without it.

        Nothing is measured; see :meth:`repeat`. Raises UserError for a model of another shape.
        """
        return replace(self, engine=PrefixEngine(model))

    def repeat(self, model: PreTrainedModel, keep_heads: bool = False, batch_tokens: int = 2048) -> Study:
        """The same prompts measured in another model of the same shape. ``keep_heads``: with the heads
        selected here, otherwise as many of its own.
        """
        other, count = self.on(model), int(self.heads.selected.sum())
        fixed = selected_heads(self.heads) if keep_heads else None
        return replace(
            other,
            **measured(other.engine, self.tokenizer, self.prompts, self.rank_by, count, fixed, batch_tokens),
        )

    def with_heads(self, heads: Sequence[tuple[int, int]]) -> Study:
        """The same study with other heads selected, (layer, head): those of another study or tool. Its
        vectors are theirs; nothing is measured. Raises UserError for a head the model does not have, or that
        is named twice.
        """
        chosen = head_list("heads", heads)
        for layer, head in chosen:
            self.engine.geometry.check_head(layer, head)
        places = zip(self.heads.layer, self.heads["head"], strict=True)
        selected = [place in {*chosen} for place in places]
        vectors = {
            name: instruction_vector(self.engine.geometry, found.mean, chosen, found.scale)
            for name, found in self.activations.items()
        }
        return replace(self, heads=self.heads.assign(selected=selected), vectors=vectors)

    def _task(self, name: str | None) -> str:
        if name is None and len(self.prompts) > 1:
            raise UserError(f"the study has {len(self.prompts)} tasks: name one of {', '.join(self.prompts)}")
        if name is not None and name not in self.prompts:
            raise unknown("task", name, self.prompts)
        return next(iter(self.prompts)) if name is None else name


def study_tasks(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    tasks: Pairs | Mapping[str, Pairs],
    instruction: str | Mapping[str, str] | None = None,
    shots: int = 5,
    heads: int | Sequence[tuple[int, int]] = 10,
    activation_prompts: int = 50,
    effect_prompts: int = 15,
    rank_by: str = "probability",
    chat: bool = False,
    template: Template = PLAIN,
    batch_tokens: int = 2048,
    seed: int = 0,
) -> Study:
    """Heads, causal effects and instruction vectors of a task given as (input, answer) pairs, or of several
    by name, which share the heads with the largest mean effect over tasks (arXiv 2406.12227, section 3).

    ``model``: any decoder of transformers, on any device; it is left as it was. ``instruction``: one for all
    tasks, or by name. Half of the pairs are demonstrations, half queries. Per task, means are taken over
    ``activation_prompts`` prompts with ``shots`` demonstrations, and effects over ``effect_prompts`` with
    shuffled answers. ``heads``: how many of those ranked first are selected, or which, as (layer, head).
    ``rank_by``: "probability" or "log_probability". ``chat``: prompts are the user turn of the tokenizer's
    chat template. ``template``: words around inputs and answers. Progress is logged at the level INFO.

    Raises UserError when there are too few pairs for ``shots``, for a tokenizer without chat template, and
    for arguments of another kind.
    """
    named = tasks if isinstance(tasks, Mapping) else {ALONE: tasks}
    given = {name: pair_list(name, pairs) for name, pairs in named.items()}
    if not given:
        raise UserError("tasks is empty: give (input, answer) pairs, or several tasks by name")
    if rank_by not in COLUMN:
        raise unknown("rank_by", rank_by, COLUMN)
    counts = (
        whole_number("shots", shots, 2),  # with one there is nothing to shuffle
        whole_number("activation_prompts", activation_prompts, 1),
        whole_number("effect_prompts", effect_prompts, 1),
    )
    batch_tokens, seed = whole_number("batch_tokens", batch_tokens, 1), whole_number("seed", seed, 0)
    template = _chat_template(template, tokenizer) if chat else template
    instructions = _by_task(instruction, given)
    prompts = {}
    for name, pairs in given.items():
        plan = PromptPlan(*counts, instructions[name] is not None)
        prompts[name] = build_prompts(
            _frame(name, pairs, instructions[name], counts[0]), name, plan, template, seed
        )
    engine = PrefixEngine(model)
    found = measured(engine, tokenizer, prompts, rank_by, *chosen_heads(engine, heads), batch_tokens)
    digest = data_digest(given, instructions)
    return Study(engine, tokenizer, template, instructions, prompts, rank_by=rank_by, data=digest, **found)


def _chat_template(template: Template, tokenizer: PreTrainedTokenizerBase) -> Template:
    """The words of ``template`` inside the tokenizer's chat template. Raises UserError without one."""
    if not getattr(tokenizer, "chat_template", None):
        raise UserError("chat is True, but the tokenizer has no chat template: leave it out")
    words = {key: getattr(template, key) for key in ("input_label", "output_label", "separator")}
    return template_for(words | {"chat_template": True}, tokenizer)


def _by_task(instruction: str | Mapping[str, str] | None, names: Iterable[str]) -> dict[str, str | None]:
    """The instruction of each task, None where it has none. Raises UserError for a name that is no task's."""
    names = list(names)
    given = instruction if isinstance(instruction, Mapping) else dict.fromkeys(names, instruction)
    for name, text in given.items():
        if name not in names:
            raise unknown("task", name, names)
        if text is not None and not isinstance(text, str):
            raise UserError(f"instruction is {show_value(text)}: give a text, or one for each task by name")
    return {name: normal_form(text) if (text := given.get(name)) else None for name in names}


def questions(
    tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str], answers: Sequence[str]
) -> list[Question]:
    """Prompts of one's own with their right answers, as the functions of ``vectors`` take them. An answer is
    what follows its prompt, mostly a word behind a blank.

    Raises UserError for an answer that gets no token.
    """
    return [Question(prompt, [answer]) for prompt, answer in encode_pairs(tokenizer, prompts, answers)]


def data_digest(tasks: Mapping[str, Pairs], instructions: Mapping[str, str | None]) -> str:
    """SHA-256 of the pairs and instructions of a study."""
    return digest_json({name: [list(map(list, pairs)), instructions[name]] for name, pairs in tasks.items()})


def _frame(name: str, pairs: Pairs, instruction: str | None, shots: int) -> pd.DataFrame:
    """The pairs as a task: the first half are training examples (demonstrations), the others validation."""
    if len(pairs) < 2 * shots:
        raise UserError(
            f"task '{name}' has {len(pairs)} pairs, too few for {shots} shots: give at least {2 * shots}"
        )
    half = len(pairs) // 2
    splits = ["train"] * half + ["validation"] * (len(pairs) - half)
    task = pd.DataFrame([map(normal_form, pair) for pair in pairs], columns=["input", "target"])
    task["example_id"] = task.index.astype(str)
    return task.assign(split=splits, instruction=instruction or "", choices=None, label=None)

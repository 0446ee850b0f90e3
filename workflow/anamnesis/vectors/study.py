"""Instruction vectors of a model that is already in memory, without the workflow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
import torch

from anamnesis.core.errors import UserError
from anamnesis.data.encoding import encode
from anamnesis.data.prompts import Template
from anamnesis.data.text import normal_form
from anamnesis.engine.generation import Request, generate
from anamnesis.engine.hooks import added_to_residual
from anamnesis.engine.line_end import LineEnd
from anamnesis.engine.modes import evaluation_mode
from anamnesis.engine.prefix_engine import PrefixEngine
from anamnesis.vectors.activations import MeanActivations, mean_head_activations
from anamnesis.vectors.effects import causal_effects
from anamnesis.vectors.icl import CLEAN, PromptPlan, build_prompts, encode_questions, shuffled_prompts
from anamnesis.vectors.instruction import instruction_vector, selected_heads
from anamnesis.vectors.ranking import rank_heads


@dataclass(frozen=True)
class VectorStudy:
    """What was found for one task.

    ``heads``: the ranking of all heads (frame, see ``ranking.rank_heads``); ``vector``: θ (hidden_size,);
    ``activations``: the means behind it.
    """

    engine: PrefixEngine
    tokenizer: object
    template: Template
    instruction: str | None
    heads: pd.DataFrame
    vector: torch.Tensor
    activations: MeanActivations

    def generate(
        self, query: str, layer: int | None = None, scale: float = 1.0, max_new_tokens: int = 12
    ) -> str:
        """The zero-shot answer to ``query``; with ``layer``, after adding scale · θ to the residual stream
        behind it.

        The vector is added at the last prompt token only. Raises UserError for a layer the model does not
        have.
        """
        (prompt,) = encode(self.tokenizer, [self.template.render(self.instruction, [], normal_form(query))])
        stop = LineEnd(self.tokenizer)
        change = None
        if layer is not None:
            self.engine.geometry.check_head(layer, 0)

            def change(rows):
                return added_to_residual(self.engine.geometry, layer, scale * self.vector, rows)

        request = Request([prompt], max_new_tokens, change)
        ((ids,),) = generate(self.engine, [request], stop, len(prompt))
        return stop.text(ids)


def study_pairs(
    model,
    tokenizer,
    pairs: Sequence[tuple[str, str]],
    instruction: str | None = None,
    shots: int = 5,
    heads: int = 10,
    activation_prompts: int = 50,
    effect_prompts: int = 15,
    rank_by: str = "probability",
    template: Template | None = None,
    batch_tokens: int = 2048,
    seed: int = 0,
) -> VectorStudy:
    """Heads, causal effects and the instruction vector of a task given as (input, answer) pairs.

    ``model``: any decoder of transformers, on any device; it is left as it was. Half of the pairs are
    demonstrations, half queries. Raises UserError when there are too few pairs for ``shots``.
    """
    template, instruction = template or Template(), instruction and normal_form(instruction)
    pairs = [(normal_form(x), normal_form(y)) for x, y in pairs]
    plan = PromptPlan(shots, activation_prompts, effect_prompts, instruction is not None)
    prompts = build_prompts(_task_of(pairs, instruction, shots), "pairs", plan, template, seed)
    clean, shuffled = prompts[prompts.kind == CLEAN], shuffled_prompts(prompts, "pairs")
    with evaluation_mode(model):
        engine = PrefixEngine(model)
        activations = mean_head_activations(engine, encode_questions(tokenizer, clean), batch_tokens)
        effects = causal_effects(
            engine,
            encode_questions(tokenizer, shuffled),
            list(shuffled.prompt_id),
            activations.mean,
            batch_tokens,
        )
        ranking = rank_heads({"pairs": effects}, rank_by, heads)
        chosen = selected_heads(ranking)
        vector = instruction_vector(engine.geometry, activations.mean, chosen, activations.scale)
    return VectorStudy(engine, tokenizer, template, instruction, ranking, vector, activations)


def _task_of(pairs: Sequence[tuple[str, str]], instruction: str | None, shots: int) -> pd.DataFrame:
    """The pairs as a task: the first half are training examples (demonstrations), the others validation."""
    if len(pairs) < 2 * shots:
        raise UserError(f"{len(pairs)} pairs are too few for {shots} shots: give at least {2 * shots}")
    half = len(pairs) // 2
    splits = ["train"] * half + ["validation"] * (len(pairs) - half)
    task = pd.DataFrame({"split": splits, "input": [x for x, _ in pairs], "target": [y for _, y in pairs]})
    task["example_id"] = task.index.astype(str)
    return task.assign(instruction=instruction or "", choices=None, label=None)

"""What adding a vector to the residual stream does, layer by layer (arXiv 2406.12227, appendix E)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd
import torch

from anamnesis.core.errors import UserError
from anamnesis.data.encoding import encode_pairs
from anamnesis.data.prompts import Template, draw_demonstrations, generator
from anamnesis.engine.branch_rows import BranchRows
from anamnesis.engine.modes import measuring
from anamnesis.engine.pack import Pack, Prefix, Tree, halved_to_fit, pack_by_size
from anamnesis.engine.prefix_engine import PrefixEngine, branch_row_index
from anamnesis.engine.scoring import Question

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

COLUMNS = ["set", "split", "layer", "condition", "base", "accuracy", "n"]
SPLITS = ("test", "validation")
"""Accuracy is reported on the first, after the layer chosen on the second. Older tables have the first only:
``commands.compare`` matches repeated rows by their order.
"""


@dataclass(frozen=True)
class SplitQuestions:
    """The first examples of one split of a set, the same for every model: zero-shot and few-shot, each with
    its right answer as the only continuation. ``noise``: the seed of their random vectors.
    """

    zero_shot: Sequence[Question]
    few_shot: Sequence[Question]
    noise: int


@measuring
def intervene(
    engine: PrefixEngine,
    questions: Sequence[Question],
    vectors: torch.Tensor,
    layers: Sequence[int],
    batch_tokens: int,
    progress: Callable[[int], None] = lambda done: None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Whether the target is what greedy decoding begins with, with and without each vector added after each
    layer.

    ``vectors``: (n_questions, n_conditions, hidden_size), added to the residual stream at the last prompt
    token. Returns (changed, clean): booleans (n_conditions, len(layers), n_questions) and (n_questions,). The
    prompt runs once; every (layer, condition) is a branch born at its layer. Raises UserError for a layer the
    model does not have, and vectors for another number of questions.
    """
    for layer in layers:
        engine.geometry.check_head(layer, 0)
    if len(vectors) != len(questions):
        raise UserError(
            f"vectors are for {len(vectors)} prompts, but there are {len(questions)}: give each its own"
        )
    asked, layers, conditions = list(layers), sorted(set(layers)), vectors.shape[1]
    changed = torch.zeros(conditions, len(layers), len(questions), dtype=torch.bool)
    clean = torch.zeros(len(questions), dtype=torch.bool)
    prefix = engine.beginning([q.context for q in questions])  # the instruction
    shared = prefix.length if prefix else 0
    lengths = [len(q.continuations[0]) for q in questions]
    for m in sorted(set(lengths)):
        members = [i for i, length in enumerate(lengths) if length == m]
        sizes = [len(questions[i].context) - shared + conditions * len(layers) * m for i in members]
        batches = [[members[k] for k in batch] for batch in pack_by_size(sizes, batch_tokens)]

        def branched(batch: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
            return _branches(engine, [questions[i] for i in batch], prefix, vectors[batch], layers)

        for batch, (with_vector, without) in halved_to_fit(batches, branched):
            changed[:, :, batch], clean[batch] = with_vector, without
            progress(len(batch))
    return changed[:, [layers.index(layer) for layer in asked]], clean


def _branches(
    engine: PrefixEngine,
    questions: Sequence[Question],
    prefix: Prefix | None,
    vectors: torch.Tensor,
    layers: Sequence[int],
) -> tuple[torch.Tensor, torch.Tensor]:
    answers, shared = [q.continuations[0] for q in questions], prefix.length if prefix else 0
    trees = [
        Tree(q.context[shared:-1], [[q.context[-1], *a[:-1]]])
        for q, a in zip(questions, answers, strict=True)
    ]
    pack = Pack(tuple(trees), prefix)
    vectors = vectors.to(engine.device)
    branch_rows = BranchRows(vectors.shape[1], layers, "residual", lambda layer, x: x + vectors.to(x))
    index = branch_row_index(pack, branch_rows)  # (layer, condition, question, m)
    clean = torch.stack(
        [pack.branch_start(t, 0) + torch.arange(index.shape[-1]) for t in range(len(questions))]
    )
    rows = torch.cat([index.flatten(0, 1), clean[None]])
    predicted = engine.run(pack, rows.flatten(), branch_rows).argmax(-1).cpu().view(rows.shape)
    hit = (predicted == torch.tensor(answers)).all(-1)  # (layer·condition + 1, question)
    return hit[:-1].view(len(layers), -1, len(questions)).transpose(0, 1), hit[-1]


def random_vectors(like: torch.Tensor, count: int, generator: torch.Generator) -> torch.Tensor:
    """(count, hidden_size) random directions, each with the norm of ``like``: the control for an
    intervention.
    """
    drawn = torch.randn(count, like.shape[-1], generator=generator)
    return drawn / drawn.norm(dim=-1, keepdim=True) * like.norm()


def split_questions(
    tokenizer: PreTrainedTokenizerBase,
    task: pd.DataFrame,
    name: str,
    template: Template,
    settings: Mapping,
    seed: int,
    split: str,
) -> SplitQuestions:
    """At most ``settings["examples"]`` examples of a split of the set ``name``, few-shot with
    ``settings["shots"]`` demonstrations drawn anew for every example. ``settings``: the section
    ``interventions`` of the configuration.

    Raises UserError where the split is empty, or has too few examples to draw demonstrations from.
    """
    asked, train = (task[task.split == part] for part in (split, "train"))
    asked = asked.iloc[: settings["examples"]]
    if asked.empty:
        raise UserError(f"task '{name}' has no {split} examples to intervene on: add some")
    rng = generator(seed, name, "interventions", *([split] if split != "test" else []))
    noise, pool = int(rng.integers(2**31)), list(zip(train.input, train.target, strict=True))

    def encoded(shots: int) -> list[Question]:
        texts = [
            template.render(
                row.instruction, draw_demonstrations(rng, pool, shots, row.input, name), row.input
            )
            for row in asked.itertuples()
        ]
        pairs = encode_pairs(tokenizer, texts, [template.before_answer + y for y in asked.target])
        return [Question(context, [answer]) for context, answer in pairs]

    return SplitQuestions(encoded(0), encoded(settings["shots"]), noise)


def intervention_table(
    engine: PrefixEngine,
    tokenizer: PreTrainedTokenizerBase,
    task: pd.DataFrame,
    name: str,
    theta: torch.Tensor,
    template: Template,
    settings: Mapping,
    seed: int,
    batch_tokens: int,
    progress: Callable[[int], None] = lambda done: None,
) -> pd.DataFrame:
    """Accuracy per layer on a set's validation and test examples, columns ``COLUMNS``.

    θ is added to zero-shot prompts and removed from few-shot prompts, of test examples in comparison with a
    random vector of equal norm, drawn anew for every example. Rows with layer -1 have no intervention.
    ``settings``: the section ``interventions`` of the configuration. Raises UserError for a layer the model
    does not have and for a set without examples of a split.
    """
    layers = list(range(engine.geometry.n_layers) if settings["layers"] is None else settings["layers"])
    for layer in layers:
        engine.geometry.check_head(layer, 0)
    parts = []
    for split in SPLITS:
        questions = split_questions(tokenizer, task, name, template, settings, seed, split)
        rows = _split_table(engine, questions, theta, layers, split == "test", batch_tokens, progress)
        parts.append(rows.assign(split=split))
    return pd.concat(parts, ignore_index=True).assign(set=name)[COLUMNS]


def _split_table(
    engine: PrefixEngine,
    questions: SplitQuestions,
    theta: torch.Tensor,
    layers: Sequence[int],
    controlled: bool,
    batch_tokens: int,
    progress: Callable[[int], None],
) -> pd.DataFrame:
    """``controlled``: whether random vectors are added as well; to choose a layer they are not needed."""
    count = len(questions.zero_shot)
    noise = random_vectors(theta, count, torch.Generator().manual_seed(questions.noise))
    rows = []
    for base, clean_name, asked, sign, condition in (
        ("zero-shot", "none", questions.zero_shot, 1, "add"),
        ("few-shot", "few-shot", questions.few_shot, -1, "remove"),
    ):
        own = sign * theta.expand(count, -1)
        vectors = torch.stack([own, noise] if controlled else [own], 1)
        changed, clean = intervene(engine, asked, vectors, layers, batch_tokens, progress)
        rows.append((-1, clean_name, base, float(clean.double().mean())))
        kinds = (condition, "random")[: vectors.shape[1]]
        for kind, right in zip(kinds, changed.double().mean(-1), strict=True):
            rows += [(layer, kind, base, float(a)) for layer, a in zip(layers, right, strict=True)]
    return pd.DataFrame(rows, columns=["layer", "condition", "base", "accuracy"]).assign(n=count)

"""What adding a vector to the residual stream does, layer by layer (arXiv 2406.12227, appendix E)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import pandas as pd
import torch

from anamnesis.data.prompts import Template, draw_demonstrations, encode_pairs, generator
from anamnesis.evaluation.scoring import Question
from anamnesis.prefix.engine import PrefixEngine, born_index
from anamnesis.prefix.modes import measuring
from anamnesis.prefix.pack import Pack, Prefix, Tree, halved_to_fit, pack_by_size
from anamnesis.prefix.rows import Births


@measuring
def intervene(
    engine: PrefixEngine,
    questions: Sequence[Question],
    vectors: torch.Tensor,
    layers: Sequence[int],
    token_budget: int,
    progress: Callable[[int], None] = lambda done: None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Whether the target is what greedy decoding begins with, with and without each vector added after each
    layer.

    ``vectors``: (n_questions, n_conditions, hidden_size), added to the residual stream at the last prompt
    token. Returns (changed, clean): booleans (n_conditions, len(layers), n_questions) and (n_questions,). The
    prompt runs once; every (layer, condition) is a branch born at its layer. Raises UserError for a layer the
    model does not have.
    """
    for layer in layers:
        engine.geometry.check_head(layer, 0)
    asked, layers, conditions = list(layers), sorted(set(layers)), vectors.shape[1]
    changed = torch.zeros(conditions, len(layers), len(questions), dtype=torch.bool)
    clean = torch.zeros(len(questions), dtype=torch.bool)
    prefix = engine.beginning([q.context for q in questions])  # the instruction
    shared = prefix.length if prefix else 0
    lengths = [len(q.continuations[0]) for q in questions]
    for m in sorted(set(lengths)):
        members = [i for i, length in enumerate(lengths) if length == m]
        sizes = [len(questions[i].context) - shared + conditions * len(layers) * m for i in members]
        batches = [[members[k] for k in batch] for batch in pack_by_size(sizes, token_budget)]

        def branched(batch: list[int]):
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
):
    answers, shared = [q.continuations[0] for q in questions], prefix.length if prefix else 0
    trees = [
        Tree(q.context[shared:-1], [[q.context[-1], *a[:-1]]])
        for q, a in zip(questions, answers, strict=True)
    ]
    pack = Pack(tuple(trees), prefix)
    vectors = vectors.to(engine.device)
    births = Births(vectors.shape[1], layers, "residual", lambda layer, x: x + vectors.to(x))
    index = born_index(pack, births)  # (layer, condition, question, m)
    clean = torch.stack(
        [pack.branch_start(t, 0) + torch.arange(index.shape[-1]) for t in range(len(questions))]
    )
    rows = torch.cat([index.flatten(0, 1), clean[None]])
    predicted = engine.run(pack, rows.flatten(), births).argmax(-1).cpu().view(rows.shape)
    hit = (predicted == torch.tensor(answers)).all(-1)  # (layer·condition + 1, question)
    return hit[:-1].view(len(layers), -1, len(questions)).transpose(0, 1), hit[-1]


def random_vectors(like: torch.Tensor, count: int, generator: torch.Generator) -> torch.Tensor:
    """(count, hidden_size) random directions, each with the norm of ``like``: the control for an
    intervention.
    """
    drawn = torch.randn(count, like.shape[-1], generator=generator)
    return drawn / drawn.norm(dim=-1, keepdim=True) * like.norm()


def intervention_table(
    engine: PrefixEngine,
    tokenizer,
    task: pd.DataFrame,
    name: str,
    theta: torch.Tensor,
    template: Template,
    settings: Mapping,
    seed: int,
    token_budget: int,
    progress=lambda done: None,
) -> pd.DataFrame:
    """Accuracy per layer on a set's test examples: set, layer, condition, base, accuracy, n.

    From zero-shot prompts θ is added, from few-shot prompts it is removed, and from both a random vector of
    equal norm (drawn anew for every example) is added. Rows with layer -1 are the bases without any
    intervention.
    ``settings``: the section ``interventions`` of the configuration. Raises UserError for a layer the model
    does not have.
    """
    layers = list(range(engine.geometry.n_layers) if settings["layers"] is None else settings["layers"])
    for layer in layers:
        engine.geometry.check_head(layer, 0)
    test, train = (task[task.split == split] for split in ("test", "train"))
    test = test.iloc[: settings["examples"]]
    pool, rng = list(zip(train.input, train.target, strict=True)), generator(seed, name, "interventions")
    noise = random_vectors(theta, len(test), torch.Generator().manual_seed(int(rng.integers(2**31))))
    rows = []
    for base, shots, sign, condition in (
        ("zero-shot", 0, 1, "add"),
        ("few-shot", settings["shots"], -1, "remove"),
    ):
        texts = [
            template.render(
                row.instruction, draw_demonstrations(rng, pool, shots, row.input, name), row.input
            )
            for row in test.itertuples()
        ]
        pairs = encode_pairs(tokenizer, texts, [template.lead + y for y in test.target])
        vectors = torch.stack([sign * theta.expand(len(test), -1), noise], 1)
        changed, clean = intervene(
            engine, [Question(c, [a]) for c, a in pairs], vectors, layers, token_budget, progress
        )
        rows.append((-1, "none" if shots == 0 else "few-shot", base, float(clean.float().mean())))
        for i, kind in enumerate((condition, "random")):
            rows += [
                (layer, kind, base, float(a))
                for layer, a in zip(layers, changed[i].float().mean(-1), strict=True)
            ]
    table = pd.DataFrame(rows, columns=["layer", "condition", "base", "accuracy"])
    return table.assign(set=name, n=len(test))[["set", "layer", "condition", "base", "accuracy", "n"]]

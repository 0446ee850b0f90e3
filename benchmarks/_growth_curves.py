"""What grows: for each curve the sizes, what is done at a size, and how much work that is by count."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from _common import task_frame
from transformers import AutoConfig, AutoModelForCausalLM

from anamnesis.data.prompts import Template
from anamnesis.engine.batches import Batch
from anamnesis.engine.examples import Example
from anamnesis.engine.prefix_engine import PrefixEngine
from anamnesis.engine.scoring import Question
from anamnesis.estimate import work
from anamnesis.estimate.lengths import by_tokenizer, lengths_of
from anamnesis.estimate.shape import Shape, model_shape
from anamnesis.estimate.work import BACKWARD, Work
from anamnesis.evaluation.records import EvaluationSet, Evaluator
from anamnesis.models.adapters import add_lora
from anamnesis.training.objectives import Objective
from anamnesis.vectors.effects import causal_effects

BUDGET = 2048  # tokens of a forward pass
SHORT, PROMPT, SHARED = 64, 256, 64  # tokens of prompts, and of an instruction that they have in common
HEAD_DIM, ANSWER, DIVIDED = 64, 4, 64  # width of a head, tokens of an answer, prompts divided into shards
LORA = {"rank": 8, "alpha": 16, "dropout": 0.0, "target_modules": ["q_proj", "v_proj"]}
PAIR = ("antonym", "capital_choice")  # answers generated, and ranked


@dataclass(frozen=True)
class Size:
    """One point of a curve. ``run`` does the work, which by count is ``counted`` on a model of ``shape``."""

    size: int
    run: Callable[[], object]
    counted: Work
    shape: Shape


@dataclass(frozen=True)
class Curve:
    """``powers``: of the size, whose sum the law is. ``sizes`` makes the models of the curve."""

    name: str
    what: str
    powers: tuple[int, ...]
    sizes: Callable[[], Sequence[Size]]


def curves(model, tokenizer, options) -> list[Curve]:
    """All curves: on ``model``, or on random weights where its dimensions grow. The last adapts ``model``."""
    engine = PrefixEngine(model)
    return [
        Curve("prompts", f"sweep, prompts of {SHORT} tokens", (0, 1), lambda: _prompts(engine)),
        Curve("prompt length", "sweep, one prompt; tokens", (0, 1, 2), lambda: _lengths(engine)),
        Curve("layers", f"sweep, {PROMPT} tokens, 4 heads", (0, 1, 2), _layers),
        Curve("heads", f"sweep, {PROMPT} tokens, 4 layers as wide as heads", (1, 2, 3), _heads),
        Curve("shards", f"sweep of {DIVIDED} prompts, all shards together", (0, 1), _shards),
        Curve(
            "tasks",
            "evaluation of one checkpoint, half of the sets ranked",
            (0, 1),
            lambda: _tasks(engine, tokenizer, options),
        ),
        Curve("training", "a step, rank 8; tokens of its batch", (0, 1, 2), lambda: _steps(model)),
    ]


def tokens(count: int, vocabulary: int, seed: int) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(5, vocabulary, (count,), generator=generator).tolist()


def sweep(engine: PrefixEngine, prompts: int, length: int, shared: int = 0, shards: int = 1) -> Size:
    """A sweep over prompts of ``length`` tokens, of which they have the first ``shared`` in common."""
    shape = model_shape(engine.model)
    begin = tokens(shared, shape.vocabulary, 0)
    questions = [
        Question([*begin, *tokens(length - shared, shape.vocabulary, 1 + i)], [[7]]) for i in range(prompts)
    ]
    mean = torch.zeros(shape.layers, shape.heads, shape.head_dim)
    names = [str(i) for i in range(prompts)]

    def run() -> None:
        for shard in range(shards):
            causal_effects(engine, questions, names, mean, BUDGET, shard=shard, shards=shards)

    born = shape.heads * (shape.layers + 1) / 2
    rows = prompts * (shape.layers * shape.heads + 1)
    read = Work(shards * shared + prompts * (length - shared), rows, length / 2)
    return Size(0, run, read + Work(prompts * born, 0.0, length), shape)


def at(size: int, made: Size) -> Size:
    return Size(size, made.run, made.counted, made.shape)


def random_engine(layers: int, heads: int) -> PrefixEngine:
    """A decoder of Llama's form, as wide as its heads together."""
    config = AutoConfig.for_model(
        "llama", vocab_size=1024, hidden_size=HEAD_DIM * heads, intermediate_size=HEAD_DIM * heads * 8 // 3,
        num_hidden_layers=layers, num_attention_heads=heads, num_key_value_heads=heads,
        tie_word_embeddings=True, max_position_embeddings=4096,
    )  # fmt: skip
    return PrefixEngine(AutoModelForCausalLM.from_config(config).eval())


def _prompts(engine: PrefixEngine) -> list[Size]:
    return [at(n, sweep(engine, n, SHORT)) for n in (8, 16, 24, 32)]


def _lengths(engine: PrefixEngine) -> list[Size]:
    return [at(n, sweep(engine, 1, n)) for n in (64, 128, 256, 512, 1024, 2048)]


def _layers() -> list[Size]:
    return [at(n, sweep(random_engine(n, 4), 1, PROMPT)) for n in (2, 4, 8, 16, 32, 64)]


def _heads() -> list[Size]:
    return [at(n, sweep(random_engine(4, n), 1, PROMPT)) for n in (4, 8, 16, 32, 64)]


def _shards() -> list[Size]:
    engine = random_engine(8, 4)
    return [at(n, sweep(engine, DIVIDED, 2 * SHARED, SHARED, n)) for n in (1, 2, 4)]


def _tasks(engine: PrefixEngine, tokenizer, options) -> list[Size]:
    settings = {"shots": 5, "forms": ["instruction"], "few_shot": "all", "demonstration_draws": 1}
    evaluator = Evaluator(engine, tokenizer, Template(), 5, settings["forms"], BUDGET, options.seed)
    frames = [task_frame(name, options, 16) for name in PAIR]
    lengths = [lengths_of(frame, Template(), by_tokenizer(tokenizer)) for frame in frames]
    shape, made = model_shape(engine.model), []
    for n in (2, 4, 8, 16):
        sets = [EvaluationSet(f"set{i}", "held_out", frames[i % 2], ANSWER) for i in range(n)]
        counted = work.evaluate(n // 2 * lengths, [], settings)
        made.append(Size(n, lambda sets=sets: evaluator.evaluate(sets), counted, shape))
    return made


def _steps(model) -> list[Size]:
    """Batches of 8 examples, answers of ``ANSWER`` tokens included."""
    shape, made = model_shape(model), []
    tuned = add_lora(model, LORA, 0).train()
    engine = PrefixEngine(tuned)
    for total in (64, 128, 256, 512, 1024):
        prompts = [tokens(total // 8, shape.vocabulary, i) for i in range(8)]
        batch = Batch(tuple(Example(tuple(p[:-ANSWER]), tuple(p[-ANSWER:])) for p in prompts))

        def run(batch=batch) -> None:
            tuned.zero_grad()
            Objective()(engine, batch, 0.0).total.backward()

        counted = Work(total - 8, 8 * ANSWER, total / 16).times(BACKWARD)
        made.append(Size(total, run, counted, shape))
    return made

"""Whatever is measured is measured in evaluation mode, also of a model whose adapter is being trained."""

from __future__ import annotations

import pandas as pd
import pytest
import torch
from transformers import TrainerCallback

import tiny_models
from anamnesis.analyses.checkpoints.alignment import alignment
from anamnesis.analyses.checkpoints.conditions import head_outputs, hits
from anamnesis.analyses.mechanisms.probes import Probe, observe
from anamnesis.analyses.outputs import scored_outputs
from anamnesis.core.artifacts import write_parquet
from anamnesis.data.prompts import generator
from anamnesis.engine.batches import Batch
from anamnesis.engine.examples import with_shared_prefix
from anamnesis.engine.generation import Request, generate
from anamnesis.engine.heads import find_heads
from anamnesis.engine.modes import evaluation_mode, training_mode
from anamnesis.engine.pack import Pack, Tree
from anamnesis.engine.prefix_engine import PrefixEngine
from anamnesis.engine.scoring import Question, score_questions
from anamnesis.evaluation.scorers import context_log_probabilities
from anamnesis.models.adapters import add_lora
from anamnesis.training.guidance import guided_additions
from anamnesis.training.loop import trainer_of
from anamnesis.training.methods.ewc import method as ewc
from anamnesis.training.objectives import Objective
from anamnesis.training.reference import Start
from anamnesis.training.stage import Stage
from anamnesis.vectors.activations import mean_head_activations
from anamnesis.vectors.effects import causal_effects
from anamnesis.vectors.interventions import intervene
from anamnesis.vectors.optimised import Optimisation, optimised_vector

BUDGET = 10**6
ARCHITECTURES = ("llama", "gpt2")  # the second has dropout of its own
PROMPTS = [[41, 17, *rest] for rest in tiny_models.token_ids(0, 9, 5, 12, 4)]
QUESTIONS = [
    Question(context, [answer])
    for context, answer in zip(PROMPTS, tiny_models.token_ids(9, 2, 1, 3, 2), strict=True)
]
EXAMPLES = with_shared_prefix([(tuple(q.context), tuple(q.continuations[0])) for q in QUESTIONS])


def in_training(name: str = "llama"):
    """A model with an adapter that is not the identity, in training mode, with much dropout."""
    targets = ["c_attn"] if name == "gpt2" else ["q_proj", "v_proj"]
    lora = {"rank": 2, "alpha": 4, "dropout": 0.5, "target_modules": targets}
    model = add_lora(tiny_models.build(name), lora, seed=1)
    noise = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.copy_(0.2 * torch.randn(parameter.shape, generator=noise))
    return model.train()


def stage_of(engine: PrefixEngine) -> Stage:
    training = {"epochs": 1, "batch_size": 8}
    return Stage(engine, tiny_models.tokenizer(), 2, EXAMPLES, {}, training, seed=0, batch_tokens=64)


def mean_of(engine: PrefixEngine) -> torch.Tensor:
    g = engine.geometry
    return torch.randn(g.n_layers, g.n_heads, g.head_dim, generator=torch.Generator().manual_seed(4))


def vector_of(engine: PrefixEngine, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, engine.geometry.hidden_size, generator=torch.Generator().manual_seed(5))


def optimised(engine: PrefixEngine) -> torch.Tensor:
    plan = Optimisation(layer=1, steps=4, batch_size=2, learning_rate=0.1)
    return optimised_vector(engine, EXAMPLES, plan, 5.0, generator(0, "test"), BUDGET).theta


def taught(engine: PrefixEngine) -> torch.Tensor:
    """The teacher's hidden states that are kept, and those that are not."""
    stage = stage_of(engine)
    kept, fresh = stage.reference(heads=True), stage.reference(logits=False)
    logits = [r.scores(EXAMPLES, "all").logits().flatten() for r in (kept, fresh)]
    return torch.cat([*logits, kept.heads(EXAMPLES).flatten()])


def matrices(engine: PrefixEngine) -> list[str]:
    """The projection of the queries, by the model's own name."""
    return ["c_attn" if engine.model.config.model_type == "gpt2" else "q_proj"]


def guided(engine: PrefixEngine, folder) -> torch.Tensor:
    """What ``guidance.vectors_from: current`` adds to all heads."""
    g = engine.geometry
    places = [(layer, head) for layer in range(g.n_layers) for head in range(g.n_heads)]
    heads = pd.DataFrame(places, columns=["layer", "head"]).assign(selected=True)
    heads.insert(0, "rank", range(1, len(heads) + 1))
    write_parquet(folder / "heads.parquet", heads)
    rows = [("clean", f"Input: {word}\nOutput:", " ", "cold") for word in ("hot", "big", "small", "it")]
    write_parquet(
        folder / "prompts.parquet",
        pd.DataFrame(rows, columns=["kind", "text", "before_answer", "target"]).assign(choices=None),
    )
    settings = {"heads": len(places), "vectors_from": "current", "control": "none"}
    prompts = str(folder / "prompts.parquet")
    found = guided_additions(stage_of(engine), settings, str(folder / "heads.parquet"), "", prompts)
    return torch.stack([found[layer] for layer in sorted(found)])


MEASURES = {
    "activations": lambda e: mean_head_activations(e, QUESTIONS, BUDGET).mean,
    "effects": lambda e: causal_effects(e, QUESTIONS, list("abcd"), mean_of(e), BUDGET).log_effect,
    "scores": lambda e: [s.log_probability[0] for s in score_questions(e, QUESTIONS, BUDGET)],
    "contexts": lambda e: context_log_probabilities(e, PROMPTS, BUDGET),
    "generation": lambda e: generate(e, [Request(PROMPTS, 9)], lambda ids: False, BUDGET)[0],
    "interventions": lambda e: intervene(e, _likely(e), vector_of(e, 4, 3), [0, 1, 2], BUDGET)[0].double(),
    "prefill": lambda e: torch.stack(e.prefill(PROMPTS[0]).values),
    "optimised vector": optimised,
    "fisher": lambda e: torch.cat([f.flatten() for f in ewc.fisher(stage_of(e), EXAMPLES).values()]),
    "teacher": taught,
    "outputs": lambda e: scored_outputs(e, QUESTIONS, BUDGET)[0],
    "heads": lambda e: head_outputs(e, QUESTIONS, [(0, 1), (2, 3)], BUDGET),
    "hits": lambda e: hits(e, _likely(e), BUDGET).double(),
    "alignment": lambda e: alignment(e, QUESTIONS, {"theta": vector_of(e)}, BUDGET).cosine,
    "probes": lambda e: observe(e, [Probe("set", tuple(EXAMPLES))], matrices(e), BUDGET).states,
}


def _likely(engine: PrefixEngine) -> list[Question]:
    """Many questions whose answers the model gives without dropout, so that dropout would change some."""
    with evaluation_mode(engine.model):
        answers = generate(engine, [Request(PROMPTS, 3)], lambda ids: False, BUDGET)[0]
    return [Question(prompt, [ids]) for prompt, ids in zip(PROMPTS, answers, strict=True)]


def modes(model) -> dict[str, bool]:
    return {name: module.training for name, module in model.named_modules()}


def same(found, expected) -> None:
    torch.testing.assert_close(*(torch.as_tensor(x, dtype=torch.float64) for x in (found, expected)))


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("measure", MEASURES)
def test_nothing_is_measured_under_dropout(measure, name):
    torch.manual_seed(0)
    model = in_training(name)
    next(m for m in model.modules() if isinstance(m, torch.nn.Linear)).eval()  # one module of another mode
    engine, before = PrefixEngine(model), modes(model)
    found = MEASURES[measure](engine)
    assert modes(model) == before
    model.eval()
    same(found, MEASURES[measure](PrefixEngine(model)))
    assert not any(modes(model).values())


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_vectors_of_the_current_model_are_without_its_dropout(name, tmp_path):
    torch.manual_seed(0)
    model = in_training(name)
    found, again = (guided(PrefixEngine(model), tmp_path) for _ in range(2))
    assert model.training
    torch.testing.assert_close(found, again, rtol=0, atol=0)
    same(found, guided(PrefixEngine(model.eval()), tmp_path))


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_dropout_is_where_a_step_is_trained_and_nowhere_else(name):
    """Whoever calls the engine, with or without gradients, and in whatever mode the model was left."""
    model = in_training(name)
    engine, objective, batch = PrefixEngine(model), Objective(()), Batch(tuple(EXAMPLES))

    def loss() -> float:
        return objective(engine, batch, 0.0).total.item()

    resting = {loss() for _ in range(3)}
    assert model.training
    with training_mode(model):
        assert len({loss() for _ in range(3)} - resting) == 3
        with Start(model).active():  # a teacher within the step
            assert {loss()} == resting
        assert loss() not in resting
    model.eval()
    assert {loss()} == resting
    with training_mode(model):
        assert loss() not in resting
    assert not any(modes(model).values())
    assert {loss()} == resting


def test_a_trained_stage_leaves_no_dropout_behind(tmp_path):
    """transformers' Trainer sets training mode when it begins, and callbacks look at the model then."""
    model, seen = in_training(), []
    engine = PrefixEngine(model)

    class Looks(TrainerCallback):
        def on_train_begin(self, *_, **__):
            seen.append(engine.run(Pack((Tree(PROMPTS[0]),)), [3]).detach())

        on_step_begin = on_step_end = on_train_end = on_train_begin

    settings = {"optimizer": "adamw_torch", "scheduler": "constant", "gradient_accumulation": 1}
    settings |= {"learning_rate": 0.0, "weight_decay": 0.0, "warmup_ratio": 0.0, "checkpoint_steps": 9}
    trainer = trainer_of(engine, [Batch(tuple(EXAMPLES))] * 2, Objective(()), settings, 0, tmp_path)
    trainer.add_callback(Looks())
    trainer.train()
    assert len({step["loss"] for step in trainer.steps}) == 2  # nothing is learnt: two draws of dropout
    assert len(seen) == 6
    for logits in seen:
        torch.testing.assert_close(logits, seen[0], rtol=0, atol=0)


def test_modes_come_back_after_an_error():
    model = in_training()
    before = modes(model)

    def broken(ids):
        raise KeyError("the caller's own code failed")

    with pytest.raises(KeyError, match="own code failed"):
        generate(PrefixEngine(model), [Request(PROMPTS, 3)], broken, BUDGET)
    with pytest.raises(KeyError, match="x"), evaluation_mode(model):
        raise KeyError("x")
    assert modes(model) == before
    assert find_heads(model).n_layers == 3
    assert modes(model) == before

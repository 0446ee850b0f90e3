"""Elastic weight consolidation: Fisher information and penalties against references of a few lines, and by
hand.
"""

from types import SimpleNamespace

import pytest
import torch
from torch.nn.functional import log_softmax

import tiny_models
from anamnesis.core.artifacts import write_tensors
from anamnesis.data.prompts import generator
from anamnesis.engine.batches import Batch
from anamnesis.engine.examples import Example, with_shared_prefix
from anamnesis.engine.prefix_engine import PrefixEngine
from anamnesis.models.adapters import add_lora
from anamnesis.training.build import build, method_class
from anamnesis.training.methods.ewc import method as ewc
from anamnesis.training.objectives import Objective
from anamnesis.training.stage import Stage
from anamnesis.training.student import PassNeeds

SETTINGS = {"strength": 0.4, "fisher_examples": 50, "merge": "sum", "decay": 0.75}
LENGTHS = [(9, 3), (5, 2), (12, 1), (4, 4)]  # tokens of (prompt, answer) after the common beginning


def tuned(dropout: float = 0.0):
    lora = {"rank": 2, "alpha": 4, "dropout": dropout, "target_modules": ["q_proj", "v_proj"]}
    return move(add_lora(tiny_models.build("llama"), lora, seed=1), 2).train()


def move(model, seed: int):
    """Other weights in the adapter, as after a stage of training."""
    noise = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in trained(model).values():
            parameter.copy_(0.2 * torch.randn(parameter.shape, generator=noise))
    return model


def trained(model) -> dict[str, torch.nn.Parameter]:
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def examples(seed: int = 0) -> list[Example]:
    texts = []
    for i, (prompt, answer) in enumerate(LENGTHS):
        tokens = tiny_models.token_ids(10 * seed + i, prompt + answer)[0]
        texts.append(((41, 17, *tokens[:prompt]), tuple(tokens[prompt:])))
    return with_shared_prefix(texts)


def stage_of(model, number: int = 1, earlier=(), **changes) -> Stage:
    training = {"epochs": 1, "batch_size": 8}
    settings, task = {**SETTINGS, **changes}, examples(number)
    return Stage(PrefixEngine(model), None, number, task, settings, training, number, 64, {}, earlier)


def plain_fisher(model, task) -> dict[str, torch.Tensor]:
    """One ordinary forward and backward pass for each example."""
    found = {name: torch.zeros_like(p) for name, p in trained(model).items()}
    training = model.training
    model.eval()
    for example in task:
        model.zero_grad()
        logits = model(torch.tensor([[*example.prompt, *example.answer]])).logits[
            0, len(example.prompt) - 1 :
        ]
        chosen = log_softmax(logits, -1)[range(len(example.answer)), list(example.answer)]
        chosen.sum().backward()
        for name, p in trained(model).items():
            found[name] += p.grad**2 / len(task)
    model.zero_grad()
    model.train(training)
    return found


def chain(tmp_path, stages: int, **changes):
    """A model after so many stages, whose states went through files, with (F, θ*) of each stage."""
    model, folders, seen = tuned(), [], []
    for number in range(1, stages + 1):
        method = method_class("ewc")(stage_of(model, number, folders, **changes))
        move(model, seed=number)
        folders.append(tmp_path / f"stage{number}")
        write_tensors(folders[-1] / "state.safetensors", method.finish())
        weights = {name: p.detach().clone() for name, p in trained(model).items()}
        seen.append((plain_fisher(model, examples(number)), weights))
    return model, folders, seen


def parabola(model, fisher, centre) -> torch.Tensor:
    return sum((fisher[name] * (p - centre[name]) ** 2).sum() for name, p in trained(model).items())


def mixed(old, new, a: float, b: float):
    return {name: a * old[name] + b * new[name] for name in new}


def plain_penalty(model, seen, merge: str) -> torch.Tensor:
    (first, _), (second, newest) = seen
    if merge == "sum":
        return 0.2 * sum(parabola(model, fisher, centre) for fisher, centre in seen)
    kept, added = (0.5, 0.5) if merge == "mean" else (0.75, 1.0)
    return 0.2 * parabola(model, mixed(first, second, kept, added), newest)


def gradients(model, loss: torch.Tensor) -> list[torch.Tensor]:
    return torch.autograd.grad(loss, list(trained(model).values()))


def assert_same(model, ours: torch.Tensor, plain: torch.Tensor) -> None:
    torch.testing.assert_close(ours, plain, atol=1e-5, rtol=1e-5)
    pairs = list(zip(gradients(model, ours), gradients(model, plain), strict=True))
    assert max(theirs.abs().max() for _, theirs in pairs) > 1e-3
    for mine, theirs in pairs:
        torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-5)


def test_fisher_is_the_mean_of_squared_gradients_of_single_examples_without_dropout():
    model = tuned(dropout=0.5)
    found = ewc.fisher(stage_of(model), examples())
    assert model.training
    for name, expected in plain_fisher(model, examples()).items():
        assert expected.max() > 1e-3
        torch.testing.assert_close(found[name], expected, atol=1e-5, rtol=1e-5)


def test_fisher_by_hand(monkeypatch):
    """Two equally likely tokens: d log P / dθ is (1/2, -1/2) for token 0, (-1/2, 1/2) for token 1, and adds
    up over an answer before it is squared: 1/4 for one token, 1 for two alike, 0 for one of each.
    """
    theta = torch.nn.Parameter(torch.zeros(2))
    logits = lambda engine, batch, progress, needs: SimpleNamespace(  # noqa: E731
        answers=theta.expand(len(batch[0].answer), 2)
    )
    monkeypatch.setattr(ewc, "run_student", logits)
    engine = SimpleNamespace(model=torch.nn.Module(), device=torch.device("cpu"))
    stage = SimpleNamespace(engine=engine, trainable={"theta": theta})
    asked = [Example((1,), answer) for answer in ((1,), (0, 0), (0, 1), (1, 1))]
    found = ewc.fisher(stage, asked)["theta"]
    torch.testing.assert_close(found, torch.full((2,), (0.25 + 1 + 0 + 1) / 4))


@pytest.mark.parametrize(
    ("merge", "fisher", "centre", "rest"),
    [
        ("sum", [8.0, 0.0], [2.5, 5.0], 6.0),  # 2 (x - 1)² + 6 (x - 3)² = 8 (x - 2.5)² + 6
        ("mean", [4.0, 0.0], [3.0, 5.0], 0.0),
        ("online", [7.5, 0.0], [3.0, 5.0], 0.0),
    ],
)
def test_two_tasks_by_hand(monkeypatch, tmp_path, merge, fisher, centre, rest):
    """θ* is 1, then 3, with F of 2, then 6. The second weight matters to neither task: it goes 4, 5."""
    theta, folders = torch.nn.Parameter(torch.zeros(2)), []
    engine = SimpleNamespace(device=torch.device("cpu"))
    for weights, importance in (([1.0, 4.0], [2.0, 0.0]), ([3.0, 5.0], [6.0, 0.0])):
        monkeypatch.setattr(ewc, "fisher", lambda *args, f=importance: {"theta": torch.tensor(f)})
        stage = SimpleNamespace(
            engine=engine,
            examples=[None],
            earlier=list(folders),
            settings={**SETTINGS, "merge": merge},
            trainable={"theta": theta},
            random=lambda *names: generator(0, *names),
        )
        method = ewc.Ewc(stage)
        theta.data = torch.tensor(weights)
        folders.append(tmp_path / str(len(folders)))
        write_tensors(folders[-1] / "state.safetensors", method.finish())
    stage.earlier = folders
    (penalty,) = ewc.Ewc(stage).terms()
    assert penalty.state["fisher.theta"].tolist() == fisher
    assert penalty.state["centre.theta"].tolist() == centre
    assert penalty.state["rest"].item() == rest
    theta.data = torch.zeros(2)
    assert penalty().item() == pytest.approx(0.2 * (fisher[0] * centre[0] ** 2 + rest))


@pytest.mark.parametrize("merge", ["sum", "mean", "online"])
def test_the_penalty_of_two_earlier_tasks_equals_its_reference(tmp_path, merge):
    model, folders, seen = chain(tmp_path, 2, merge=merge)
    (penalty,) = method_class("ewc")(stage_of(model, 3, folders, merge=merge)).terms()
    move(model, seed=9)
    assert_same(model, penalty(), plain_penalty(model, seen, merge))


@pytest.mark.parametrize("merge", ["sum", "mean", "online"])
def test_after_one_task_all_forms_hold_the_weights_at_its_end(tmp_path, merge):
    model, folders, ((fisher, centre),) = chain(tmp_path, 1, merge=merge)
    stage = stage_of(model, 2, folders, merge=merge)
    _, objective = build("ewc", stage)
    (penalty,) = objective.terms
    assert penalty.needs == PassNeeds()
    assert penalty().item() == 0.0
    assert all(torch.equal(value, centre[name]) for name, value in stage.start.values.items())
    move(model, seed=9)
    batch = Batch(tuple(stage.examples))
    plain = Objective()(stage.engine, batch, 0.0).total + 0.2 * parabola(model, fisher, centre)
    loss = objective(stage.engine, batch, 0.0)
    assert loss.parts["ewc"] == pytest.approx(0.2 * parabola(model, fisher, centre).item(), rel=1e-5)
    assert_same(model, loss.total, plain)


def test_the_first_stage_has_no_penalty():
    assert build("ewc", stage_of(tuned()))[1].terms == []


def test_fisher_examples_are_drawn_from_the_task_once_and_the_same_again(monkeypatch):
    drawn = []
    fisher = lambda stage, chosen: drawn.append(chosen) or {}  # noqa: E731
    monkeypatch.setattr(ewc, "fisher", fisher)
    model = tuned()
    for count in (2, 2, 50):
        method_class("ewc")(stage_of(model, fisher_examples=count)).finish()
    assert drawn[0] == drawn[1]
    assert [len(set(chosen)) for chosen in drawn] == [2, 2, len(LENGTHS)]
    assert set(drawn[0]) < set(drawn[2]) == set(examples(1))

"""A stage that is measured on the way: that it ends as without, and what is said of what was seen."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

import reference
import tiny_models
from anamnesis.analyses.within_stage.figure import within_stage
from anamnesis.analyses.within_stage.measure import WEIGHTS, Asked, asked, difference, look, watched
from anamnesis.analyses.within_stage.section import group_rows, verdict
from anamnesis.analyses.within_stage.tables import (
    FALLERS,
    RISERS,
    SELECTED,
    Look,
    changes,
    half_way,
    pooled,
    within_table,
)
from anamnesis.core.errors import UserError
from anamnesis.data.prompts import Template
from anamnesis.engine.examples import with_shared_prefix
from anamnesis.engine.prefix_engine import PrefixEngine
from anamnesis.engine.scoring import Question
from anamnesis.figures.style import WIDTH
from anamnesis.models.adapters import add_lora, save_adapter
from anamnesis.training.build import build
from anamnesis.training.loop import train_stage
from anamnesis.training.stage import Stage
from anamnesis.vectors.icl import PromptPlan, build_prompts
from anamnesis.vectors.instruction import head_additions

LORA = {"rank": 2, "alpha": 4, "dropout": 0.2, "target_modules": ["q_proj", "v_proj"]}
TRAINING = {
    "epochs": 2, "batch_size": 3, "gradient_accumulation": 2, "learning_rate": 0.01,
    "optimizer": "adamw_torch", "scheduler": "linear", "weight_decay": 0.01, "warmup_ratio": 0.0,
    "checkpoint_steps": 2,
}  # fmt: skip
KL = {
    "weight": 0.3, "teacher": "previous", "positions": "all", "direction": "student_teacher",
    "temperature": 2.0, "temperature_squared": False, "reduction": "sum",
}  # fmt: skip
GUIDANCE = {"schedule": "linear", "plateau": 0.25, "intervention": True, "kl": KL}
BUDGET = 90  # several batches
HOW = ("full", "probability", BUDGET)


def questions(model) -> dict[str, Asked]:
    """Two sets; half of the answers are what the untrained model says."""
    sets = {}
    for number, name in enumerate(("one", "other")):
        prompts = tiny_models.token_ids(20 + number, 9, 7, 11, 8)
        said = [reference.greedy(model, prompt, 2) for prompt in prompts]
        answers = [t if i % 2 else [(t[0] + 1) % 300 + 1, t[1]] for i, t in enumerate(said)]
        items = [Question(p, [a]) for p, a in zip(prompts, answers, strict=True)]
        sets[name] = Asked(items, items, items[:3], items)
    return sets


def stage() -> Stage:
    texts = [(tuple([9, 8, *t[:-2]]), tuple(t[-2:])) for t in tiny_models.token_ids(3, 5, 8, 6, 9, 7, 5, 8)]
    model = add_lora(tiny_models.build("llama"), LORA, 3)
    return Stage(PrefixEngine(model), None, 1, with_shared_prefix(texts), {}, TRAINING, 3, BUDGET)


def method(guided: bool):
    made = stage()
    if not guided:
        return build("inclora", made)
    mean = torch.randn(3, 4, 12, generator=torch.Generator().manual_seed(1))
    return build("inclora", made, GUIDANCE, head_additions(made.engine.geometry, mean, [(1, 2), (2, 0)]))


@pytest.mark.parametrize("guided", [False, True])
def test_looking_on_the_way_changes_nothing_of_the_training(guided, tmp_path):
    chosen, objective = method(guided)
    plain = chosen.stage.engine
    train_stage(plain, chosen.batches(), objective, TRAINING, 3, tmp_path / "run")
    save_adapter(plain.model, tmp_path / "adapter", "tiny", [])
    asked_of = questions(tiny_models.shared("llama"))
    chosen, objective = method(guided)
    looks = watched(chosen, objective, asked_of, 2, *HOW)
    assert [seen.step for seen in looks] == [0, 2, 3]  # of 3 steps
    assert difference(chosen.stage.engine.model, tmp_path / "adapter") == 0.0
    for seen, engine in ((looks[0], stage().engine), (looks[-1], plain)):  # dropout plays no part
        again = look(engine, asked_of, 0, *HOW)
        for name in asked_of:
            assert np.array_equal(seen.effects[name], again.effects[name])
            assert np.array_equal(seen.norms[name], again.norms[name])
    assert np.abs(looks[-1].effects["one"] - looks[0].effects["one"]).max() > 1e-6
    assert reference.hook_count(chosen.stage.engine.model) == 0


def test_other_weights_are_noticed(tmp_path):
    model = stage().engine.model
    save_adapter(model, tmp_path, "tiny", [])
    assert difference(model, tmp_path) == 0.0
    weights = load_file(tmp_path / WEIGHTS)
    name = next(iter(weights))
    weights[name][0, 0] += 0.25
    save_file(weights, tmp_path / WEIGHTS)
    assert difference(model, tmp_path) == pytest.approx(0.25)
    del weights[name]
    save_file(weights, tmp_path / WEIGHTS)
    with pytest.raises(UserError, match="holds other weights"):
        difference(model, tmp_path)


def test_a_look_is_what_single_forward_passes_give():
    model = tiny_models.shared("llama")
    sets = questions(model)
    seen = look(PrefixEngine(model), sets, 7, *HOW)
    prompts = [q.context for q in sets["one"].clean]
    outputs = torch.stack([reference.head_outputs(model, prompt) for prompt in prompts])
    assert np.allclose(seen.norms["one"], outputs.norm(dim=-1), rtol=1e-4)
    ids = [str(i) for i in range(4)]  # fewer than five are right, so the mean is over all
    plain = reference.causal_effects(model, sets["one"].shuffled, ids, outputs.mean(0), "full")
    effect = np.exp(plain.log_patched) - np.exp(plain.log_clean)
    assert np.allclose(seen.effects["one"].ravel(), effect, atol=1e-6)
    assert seen.right["one"] == {"zero-shot": [False, True, False], "few-shot": [False, True, False, True]}
    assert seen.step == 7


def test_few_prompts_are_refused_and_the_first_ones_taken():
    rows = [
        (split, f"{split}-{i}", "Say it twice.", f"{split} {i}", f"{i}{i}", None, None)
        for split in ("train", "validation", "test") for i in range(6)
    ]  # fmt: skip
    columns = ["split", "example_id", "instruction", "input", "target", "choices", "label"]
    task = pd.DataFrame(rows, columns=columns)
    prompts = build_prompts(task, "twice", PromptPlan(2, 5, 4), Template(), 0)
    found = asked(tiny_models.tokenizer(), task, "twice", prompts, Template(), 2, 3, 4, 0)
    assert [len(part) for part in (found.clean, found.shuffled, found.zero_shot, found.few_shot)] == [
        3,
        3,
        4,
        4,
    ]
    decoded = tiny_models.tokenizer().decode(found.shuffled[0].context)
    assert decoded == prompts[prompts.kind == "shuffled"].text.iloc[0]
    with pytest.raises(UserError, match="twice has 1: raise"):
        asked(tiny_models.tokenizer(), task, "twice", prompts, Template(), 2, 1, 4, 0)


OWN = [(0, 0), (0, 1)]


def made_looks() -> list[Look]:
    """Both heads of S lose 0.1, most of it by step 5; (1, 2) gains 0.3, (1, 1) 0.2, (2, 0) loses 0.05."""
    looks = []
    for step, share in ((0, 0.0), (5, 0.8), (10, 1.0)):
        grid = np.zeros((3, 3))
        grid[0, :2] = 0.5 - 0.1 * share
        grid[1, 1:] = 0.2 * share, 0.3 * share
        grid[2, 0] = -0.05 * share
        jitter = 0.01 * np.array([-1, -1, 1, 1])[:, None, None] * (step > 0)
        effects = {name: grid + jitter for name in ("a", "b")}
        norms = {name: np.full((2, 3, 3), 2.0 + share) for name in ("a", "b")}
        right = {name: {"zero-shot": [True] * 2, "few-shot": [step == 0, True]} for name in ("a", "b")}
        looks.append(Look(step, effects, norms, right))
    return looks


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return within_table(made_looks(), OWN)


def test_groups_of_heads_and_when_they_change(table):
    found = changes(table)
    last = found[(found.measure == "effect") & (found.step == 10)].set_index("name")
    assert last.change.to_dict() == pytest.approx({SELECTED: -0.2, RISERS: 0.5, FALLERS: -0.2})
    # prompts are two times 0.01 above and below: s.d. 0.02309 of a sum of two heads, 4 prompts, 2 sets
    half = 1.959964 * 0.0230940 / 8**0.5
    assert (last.high - last.change).to_numpy() == pytest.approx(half, rel=1e-4)
    assert (last.change - last.low).to_numpy() == pytest.approx(half, rel=1e-4)
    assert (found[found.step == 0][["change", "low", "high"]] == 0).all(axis=None)
    assert half_way(table, "effect", SELECTED) == 5
    level = table[(table.measure == "effect") & (table.name == SELECTED)].value
    assert level.to_list() == pytest.approx([1.0, 0.84, 0.8])
    norms = found[(found.measure == "norm") & (found.step == 10)]
    assert norms.change.to_numpy() == pytest.approx(0.5)
    assert set(last.n) == {8}
    assert set(norms.n) == {4}


def test_accuracy_and_single_heads(table):
    answers = pooled(table).set_index(["form", "step"])
    assert answers.value["few-shot", 0] == 1.0
    assert answers.value["few-shot", 10] == 0.5
    assert set(answers.n) == {4}
    heads = table[(table.measure == "head effect") & (table.step == 10)].set_index(["layer", "head"])
    assert heads.value[1, 2] == pytest.approx(0.3)
    assert list(heads[heads.name == SELECTED].index) == OWN
    assert set(heads.n) == {8}


def test_heads_that_rise_by_chance_are_not_taken_for_risers():
    above, naive_above = zip(*(noise(seed) for seed in range(40)), strict=True)
    assert sum(above) <= 4, "one time in 40 is expected"
    assert all(naive_above)


def noise(seed: int) -> tuple[bool, bool]:
    """Of effects that are nothing but noise: whether the interval of the risers lies above 0, and whether the
    heads chosen on the prompts they are added up on lie above the interval.
    """
    rng = np.random.default_rng(seed)
    looks = [
        Look(
            step, {"a": rng.normal(size=(40, 5, 8))}, {"a": np.ones((2, 5, 8))}, {"a": {"zero-shot": [True]}}
        )
        for step in (0, 1)
    ]
    found = changes(within_table(looks, [(0, h) for h in range(5)])).set_index(["measure", "name", "step"])
    last = found.loc[("effect", RISERS, 1)]
    naive = (looks[1].effects["a"] - looks[0].effects["a"]).mean(0).ravel()
    return last.low > 0, np.sort(naive)[-5:].sum() > last.high


def chains(table: pd.DataFrame, **more) -> pd.DataFrame:
    parts = [
        table.assign(method=m, order=1, seed=0, stage=1, difference=0.0, **more)
        for m in ("inclora", "inclora-ivg")
    ]
    return pd.concat(parts, ignore_index=True)


def test_the_table_holds_the_numbers_of_every_group(table):
    part = table.assign(difference=0.0)
    selected, risers, fallers = group_rows("inclora", part)
    assert selected[:6] == ["inclora", "S", "1.000", "0.800", "−0.200\u00a0[−0.216,\u00a0−0.184]", "5"]
    assert risers[2:4] == ["0.000", "0.500"]
    assert risers[-1].startswith("1.2, 1.1")
    assert fallers[-1] == "0.0*, 0.1*, 2.0"
    said = verdict("inclora", part)
    assert "few-shot accuracy goes from 100.0\u00a0% to 50.0\u00a0%" in said
    assert "The data support that" in said
    assert said.endswith("bit for bit.")


@pytest.mark.parametrize(
    ("selected", "risers", "answer"),
    [((-2, -1), (1, 2), "data support"), ((1, 2), (1, 2), "do not support"),
     ((-2, 1), (1, 2), "too few"), ((-2, -1), (-2, -1), "do not support")],
)  # fmt: skip
def test_the_answer_follows_the_intervals(table, selected, risers, answer):
    changed = table.copy()
    for name, (low, high) in ((SELECTED, selected), (RISERS, risers)):
        rows = (changed.measure == "effect") & (changed.name == name)
        start = changed.value[rows].iloc[0]
        changed.loc[rows & (changed.step > 0), ["low", "high"]] = start + low, start + high
    said = verdict("inclora", changed.assign(difference=0.5))
    assert answer in said
    assert said.endswith("other weights, up to 0.5 apart.")


def test_the_figure_fits_the_page(table):
    figure = within_stage(chains(table))
    figure.canvas.draw()
    drawn, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    assert width == WIDTH
    assert min(drawn.x0, drawn.y0) >= -0.01
    assert drawn.x1 <= width + 0.01
    assert drawn.y1 <= height + 0.01
    maps = [axes for axes in figure.axes if axes.images and axes.patches]
    assert [len(axes.patches) for axes in maps] == [2, 2]
    with pytest.raises(UserError, match="is empty"):
        within_stage(chains(table).iloc[:0])
    with pytest.raises(UserError, match="unknown unit"):
        within_stage(chains(table), "x")

"""What a study is given by mistake is one line, and never a number that means something else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from anamnesis.core.errors import UserError
from anamnesis.study import Effects, compare, questions, save_study, steered, study_tasks
from anamnesis.study.inputs import head_list, pair_list, whole_number, whole_numbers
from anamnesis.vectors.interventions import intervene
from tiny_models import shared, tokenizer

PAIRS = [(f"thing {i}", ("cold", "hot")[i % 2]) for i in range(8)]
SMALL = {"shots": 2, "heads": 2, "activation_prompts": 3, "effect_prompts": 3}


@pytest.fixture(scope="module")
def study():
    return study_tasks(shared("llama"), tokenizer(), PAIRS, **SMALL)


@pytest.mark.parametrize("value", [2, np.int64(2), np.array(2), torch.tensor(2)])
def test_whole_numbers_of_any_library_are_taken(value):
    assert whole_number("n", value, 1) == 2
    assert whole_numbers("n", value) == whole_numbers("n", [value]) == [2]


@pytest.mark.parametrize("value", [2.0, "2", True, np.bool_(True), torch.tensor(True), None, [2.5], "23"])
def test_what_is_no_whole_number_is_refused(value):
    with pytest.raises(UserError, match=r"n is .*: give one whole number or several"):
        whole_numbers("n", value)
    with pytest.raises(UserError, match=r"n is .*: give a whole number, 1 or more"):
        whole_number("n", value, 1)


@pytest.mark.parametrize("heads", [[[0, 1]], np.array([[0, 1]]), [(np.int64(0), torch.tensor(1))]])
def test_heads_are_taken_as_tables_and_arrays_hold_them(study, heads):
    assert head_list("heads", heads) == [(0, 1)]
    torch.testing.assert_close(study.with_heads(heads).vector, study.with_heads([(0, 1)]).vector)


@pytest.mark.parametrize(
    ("heads", "message"),
    [
        ([], "give .layer, head. pairs"),
        ((0, 1), "give .layer, head. pairs"),
        ([(0, 1, 2)], "give .layer, head. pairs"),
        ("17", "give .layer, head. pairs"),
        ([(0, 1), (0, 1)], r"heads has \(0, 1\) twice"),
        ([(9, 0)], "9"),
    ],
)
def test_heads_that_are_none_are_refused(study, heads, message):
    with pytest.raises(UserError, match=message):
        study.with_heads(heads)
    if not isinstance(heads, str):
        with pytest.raises(UserError, match=message):
            study_tasks(shared("llama"), tokenizer(), PAIRS, **{**SMALL, "heads": heads})


@pytest.mark.parametrize(
    "given", [["ab", "cd"], [("a", 1)], [("a", None)], [("a", "b", "c")], [3], 3, {"walk": "walked"}]
)
def test_pairs_that_are_none_are_refused(given):
    with pytest.raises(UserError, match=r"pair 0: .* is not .input, answer., two texts"):
        study_tasks(shared("llama"), tokenizer(), given, **SMALL)


def test_pairs_may_come_one_by_one():
    assert pair_list("x", (list(pair) for pair in PAIRS)) == PAIRS


@pytest.mark.parametrize(
    "changed",
    [
        {"heads": 0}, {"heads": -1}, {"heads": 1.5}, {"heads": 10**6}, {"shots": 1}, {"shots": 2.5},
        {"activation_prompts": 0}, {"effect_prompts": 0}, {"seed": -1}, {"batch_tokens": 0},
        {"instruction": 5}, {"instruction": {"pairs": 5}},
    ],
)  # fmt: skip
def test_numbers_that_mean_nothing_are_refused_by_their_name(changed):
    (name,) = changed
    with pytest.raises(UserError, match=f"^{name} is "):
        study_tasks(shared("llama"), tokenizer(), PAIRS, **{**SMALL, **changed})


@pytest.mark.parametrize(
    "changed",
    [
        {"layers": 0.7}, {"layers": "1"}, {"layers": []}, {"layers": None},
        {"positions": [True, False]}, {"positions": []}, {"positions": None}, {"positions": "last"},
        {"scale": "2"}, {"scale": None},
    ],
)  # fmt: skip
def test_steering_that_means_nothing_is_refused_by_its_name(study, changed):
    (name,) = changed
    with pytest.raises(UserError, match=f"^{name} is "), study.steered(**{"layers": 0, **changed}):
        pass


def test_arrays_steer_as_tensors_do(study):
    model, ids = shared("llama"), torch.tensor([[1, 2, 3]])
    with torch.no_grad(), study.steered(1, positions=[0, -1]):
        expected = model(input_ids=ids).logits
    with torch.no_grad(), steered(model, study.vector.numpy(), np.array([1]), positions=np.array([0, -1])):
        torch.testing.assert_close(model(input_ids=ids).logits, expected)


@pytest.mark.parametrize("changed", [{"layers": "11"}, {"max_new_tokens": 0}])
def test_an_answer_that_means_nothing_is_refused(study, changed):
    (name,) = changed
    with pytest.raises(UserError, match=f"^{name} is "):
        study.answer("teach", **changed)


def test_a_folder_with_something_else_is_not_replaced(study, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match="is there and holds no study"):
        save_study(study, tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"
    (tmp_path / "empty").mkdir()
    for _ in range(2):
        save_study(study, tmp_path / "empty")
    with pytest.raises(UserError, match="is there and holds no study"):
        save_study(study, tmp_path / "thesis.txt")


def test_studies_on_other_scales_or_prompts_are_not_compared(study):
    with pytest.raises(UserError, match="different scales"):
        compare(study, replace(study, rank_by="log_probability"))
    other = study_tasks(shared("llama"), tokenizer(), PAIRS, **SMALL, seed=1)
    with pytest.raises(UserError, match="different prompts of the task 'pairs'"):
        compare(study, other)


def test_effects_have_a_known_scale_and_a_table(study):
    with pytest.raises(UserError, match="unknown scale 'log'"):
        Effects(study.tables, "log")
    with pytest.raises(UserError, match="tables is empty"):
        Effects({})


def test_interventions_have_a_vector_for_each_prompt(study):
    asked = questions(study.tokenizer, ["one two", "two three"], [" down", " down"])
    with pytest.raises(UserError, match="vectors are for 3 prompts, but there are 2"):
        intervene(study.engine, asked, torch.zeros(3, 1, 48), [0], 64)

"""The section ``tuning`` of the configuration: what is refused, and how."""

from __future__ import annotations

import pytest
from test_config import KNOWN, change, mapping, refusal  # noqa: F401

from anamnesis.config import load_config
from anamnesis.training.tuning_settings import tuning_tasks


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        (
            "model.gpus",
            2,
            "training.processes = 1 (for inclora): the model takes model.gpus = 2 GPUs",
        ),
        ("suite.name", "tuned", "suite.name = 'tuned': that directory holds other results, use no name of"),
        ("tuning.tasks", ["plurals"], "tuning.tasks: unknown task 'plurals': did you mean 'plural'?"),
        ("tuning.tasks", ["plural", "plural"], "tuning.tasks: 'plural' is listed 2 times, list it once"),
        (
            "tuning.lora.target_modules",
            ["q_proj", "q_proj"],
            "tuning.lora.target_modules: 'q_proj' is listed 2 times, list it once",
        ),
        ("tuning.examples", 0, "tuning.examples = 0: must be an integer >= 1"),
        ("tuning.epochs", 0, "tuning.epochs = 0: must be an integer >= 1"),
        ("tuning.learning_rate", 0, "tuning.learning_rate = 0: must be a number > 0"),
        ("tuning.lora.dropout", 1, "tuning.lora.dropout = 1: must be a number"),
        ("tuning.learningrate", 1, "unknown key tuning.learningrate = 1: did you mean tuning.learning_rate?"),
        ("vectors.never_answered", "skip", "vectors.never_answered = 'skip': "),
    ],
)
def test_wrong_values_are_refused(mapping, key, value, expected):  # noqa: F811
    assert refusal(change(mapping, key, value)).startswith(expected)


def test_a_model_on_several_gpus_cannot_be_tuned(mapping):  # noqa: F811
    several = change(change(mapping, "model.gpus", 2), "training.processes", 2)
    assert refusal(several) == (
        "tuning.enabled = true: a model on model.gpus = 2 GPUs cannot be tuned here; set it to false and "
        "name a chat model, or set model.gpus to 1"
    )
    assert load_config(change(several, "tuning.enabled", False), KNOWN).model.gpus == 2


def test_the_held_out_sets_are_tuned_on_unless_others_are_named(mapping):  # noqa: F811
    def tasks(**tuning):
        return tuning_tasks(load_config({**mapping, "tuning": tuning}, KNOWN))

    assert tasks() == ["antonym", "plural"]
    assert tasks(tasks=["capital_choice"]) == ["capital_choice"]
    assert tasks(enabled=False, tasks=["capital_choice"]) == []

"""Controls of guidance, flashbacks of further sets, sizes of single tasks: what is refused, and how."""

from __future__ import annotations

import pytest
from test_config import KNOWN, change, mapping, refusal  # noqa: F401

from anamnesis.config import load_config


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("data.task_examples", {"antonym": 0}, "data.task_examples.antonym = 0: must be an integer >= 1"),
        ("data.task_examples", {"antonim": 9}, "data.task_examples: unknown task 'antonim': did you mean"),
        ("data.task_examples", {"capital_choice": 9}, "data.task_examples: unknown task 'capital_choice'"),
        (
            "data.task_examples",
            {"antonym": 4},
            "vectors.shots = 5: demonstrations are training examples, of which there are at most "
            "data.task_examples.antonym = 4; lower",
        ),
        (
            "methods.jfa.flashback_tasks",
            ["plurals"],
            "methods.jfa.flashback_tasks: unknown task 'plurals': did you mean 'plural'?",
        ),
        (
            "methods.jfa.flashback_tasks",
            ["plural", "plural"],
            "methods.jfa.flashback_tasks: 'plural' is listed 2 times",
        ),
        (
            "variants",
            {"known": {"of": "jfa", "settings": {"flashback_tasks": ["plurals"]}}},
            "variants.known.settings.flashback_tasks: unknown task 'plurals': did you mean 'plural'?",
        ),
        (
            "variants",
            {"known": {"of": "jfa-ivg", "settings": {"flashback_tasks": ["plural", "plural"]}}},
            "variants.known.settings.flashback_tasks: 'plural' is listed 2 times",
        ),
        ("guidance.share", 0, "guidance.share = 0: must be a number > 0"),
        ("guidance.share", 1.5, "guidance.share = 1.5: must be a number"),
        (
            "guidance.control",
            "other",
            "guidance.control = 'other': did you mean 'other_task'? must be one of none, random_heads",
        ),
        (
            "guidance",
            {"control": "shared", "vectors_from": "current"},
            "guidance.control = shared (for inclora-ivg): other tasks' activations are those of the initial",
        ),
    ],
)
def test_wrong_values_are_refused(mapping, key, value, expected):  # noqa: F811
    assert refusal(change(mapping, key, value)).startswith(expected)


@pytest.mark.parametrize("control", ["other_task", "centred"])
def test_a_control_made_from_other_tasks_needs_some(mapping, control):  # noqa: F811
    alone = change(mapping, "suite.orders", [["news_topic"]])
    said = refusal(change(alone, "guidance.control", control))
    assert said.startswith(f"guidance.control = {control} (for inclora-ivg): the suite has one training task")
    variant = {"other": {"of": "inclora-ivg", "guidance": {"control": control}}}
    assert f"guidance.control = {control} (for other)" in refusal(change(alone, "variants", variant))
    unguided = change(change(alone, "guidance.control", control), "training.methods", ["inclora"])
    assert load_config(unguided, KNOWN).guidance.control == control
    assert load_config(change(mapping, "guidance.control", control), KNOWN).guidance.control == control

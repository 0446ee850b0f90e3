"""What training stages and tasks are made from, as Snakemake plans it (dry runs)."""

from __future__ import annotations

import re
from pathlib import Path

from runs import HELD_OUT, TRAINED, Experiment

FIRST, SECOND = TRAINED
MEAN = "mean_activations.safetensors"
VARIANTS = {
    control: {"of": "inclora-ivg", "guidance": {"control": control}}
    for control in ("other_task", "shared", "centred")
}


def planned_inputs(experiment: Experiment, rule: str = "train_stage") -> dict[str, list[str]]:
    """Wildcards of each job of a rule -> the files it is made from, in their order."""
    said = experiment.run("--dry-run").stdout
    found = {}
    for body in re.findall(rf"^rule {rule}:\n((?:    .*\n)*)", said, flags=re.MULTILINE):
        wildcards, files = (
            re.search(rf"^    {key}: (.*)$", body, flags=re.MULTILINE) for key in ("wildcards", "input")
        )
        found[wildcards[1]] = files[1].split(", ")
    assert found, said
    return found


def stage(method: str, order: int, number: int) -> str:
    return f"method={method}, order={order}, seed=0, stage={number}"


def means(files: list[str]) -> list[str]:
    return [Path(file).parent.name for file in files if file.endswith(MEAN)]


def tasks(files: list[str]) -> list[str]:
    return [Path(file).stem for file in files if Path(file).parent.name == "tasks"]


def test_controls_are_made_from_the_tasks_of_the_first_order_in_every_chain(fresh):
    orders = {"orders": [[FIRST, SECOND], [SECOND, FIRST]]}
    methods = {"methods": ["inclora-ivg", *VARIANTS]}
    changed = fresh.with_config({"suite": orders, "training": methods, "variants": VARIANTS})
    found = planned_inputs(changed)
    learnt = {1: [FIRST, SECOND], 2: [SECOND, FIRST]}
    for order, names in learnt.items():
        for number, name in enumerate(names, start=1):
            other = SECOND if name == FIRST else FIRST
            assert means(found[stage("inclora-ivg", order, number)]) == [name]
            assert means(found[stage("other_task", order, number)]) == [name, other]
            for control in ("shared", "centred"):
                assert means(found[stage(control, order, number)]) == [name, FIRST, SECOND]


def test_flashbacks_of_named_sets_are_inputs_from_the_first_stage_on(fresh):
    """A set of the catalogue's own that nothing else asks for is prepared for it; a task learnt before counts
    once, and the one being learnt not at all.
    """
    named = {"jfa": {"flashback_tasks": [HELD_OUT, "past_tense", FIRST]}}
    changed = fresh.with_config({"training": {"methods": ["jfa", "replay"]}, "methods": named})
    assert "prepare_task task=past_tense" in changed.plan()
    found = planned_inputs(changed)
    assert tasks(found[stage("jfa", 1, 1)]) == [FIRST, HELD_OUT, "past_tense"]
    assert tasks(found[stage("jfa", 1, 2)]) == [SECOND, FIRST, HELD_OUT, "past_tense"]
    assert tasks(found[stage("replay", 1, 1)]) == [FIRST]
    assert tasks(found[stage("replay", 1, 2)]) == [SECOND, FIRST]


def test_joint_stages_are_made_from_all_tasks_so_far_and_no_earlier_adapter(fresh):
    changed = fresh.with_config({"training": {"methods": ["joint", "inclora"]}})
    found = planned_inputs(changed)
    first, second = (found[stage("joint", 1, number)] for number in (1, 2))
    assert (tasks(first), tasks(second)) == ([FIRST], [SECOND, FIRST])
    assert not [file for file in (*first, *second) if file.endswith("adapter")]
    assert [file for file in found[stage("inclora", 1, 2)] if file.endswith("stage1/adapter")]
    evaluated = planned_inputs(changed, "evaluate_stage")[stage("joint", 1, 2)]
    assert [Path(file).parent.name for file in evaluated if file.endswith("adapter")] == ["stage2"]


def test_a_task_depends_on_its_own_number_of_examples_only(fresh):
    kinds = [f"results/tasks/{name}.parquet" for name in (FIRST, SECOND)]
    done = fresh.run(*kinds)
    assert done.returncode == 0, done.stdout
    for numbers, again in (
        ({}, []),
        ({FIRST: 12}, []),  # as many as all have
        ({FIRST: 9}, [f"prepare_task task={FIRST}"]),
        ({FIRST: 12, SECOND: 7}, [f"prepare_task task={SECOND}"]),
    ):
        assert fresh.with_config({"data": {"task_examples": numbers}}).plan(*kinds) == again

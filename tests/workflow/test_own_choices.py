"""Tasks added and methods dropped by the configuration alone."""

from __future__ import annotations

import pandas as pd

from runs import SUITE, TRAINED, stage

WORDS = ["apple", "bread", "cloud", "drum", "eagle", "fork", "grape", "house", "ink", "jar", "kite", "lamp"]


ROWS = [f"{word},{word[0]}" for word in WORDS]
OWN = {"path": "first_letter.csv", "instruction": "Write the first letter of the word."}


def with_own_task(fresh, **keys):
    """An experiment in which one of the user's own tasks takes the place of the held-out set."""
    (fresh.folder / "first_letter.csv").write_text("\n".join(["input,target", *ROWS]) + "\n")
    return fresh.with_config(
        {
            "data": {"tasks": {"first_letter": OWN | keys}},
            "suite": {"held_out": ["first_letter"]},
            "training": {"methods": ["inclora"]},
        }
    )


def test_another_metric_of_an_own_task_makes_only_evaluations_again(fresh):
    mine, base = with_own_task(fresh), SUITE / "base" / "stage0" / "evaluation.parquet"
    targets = [base, stage("inclora", 1) / "evaluation.parquet"]
    done = mine.run(*targets)
    assert done.returncode == 0, done.stdout
    scored = with_own_task(fresh, metric="edit_similarity")
    assert scored.plan(*targets) == [
        "evaluate_base",
        "evaluate_stage method=inclora, order=1, seed=0, stage=1",
    ]
    assert scored.run(base).returncode == 0
    table = pd.read_parquet(mine.folder / base)
    written = table[table["form"] == "instruction"]
    assert set(written["metric"][written["set"] == "first_letter"]) == {"edit_similarity"}
    assert "edit_similarity" not in set(written["metric"][written["set"] != "first_letter"])


def test_adding_a_task_and_dropping_a_method_by_configuration_alone(fresh):
    """Only one method is computed."""
    mine = with_own_task(fresh)
    jobs = mine.plan()
    assert [job for job in jobs if job.startswith("prepare_task")] == sorted(
        f"prepare_task task={name}" for name in (*TRAINED, "first_letter")
    )
    assert [job for job in jobs if job.startswith("train_stage")] == [
        f"train_stage method=inclora, order=1, seed=0, stage={number}" for number in (1, 2)
    ]
    assert not [job for job in jobs if "ivg" in job]

    done = mine.run("results/tasks/first_letter.parquet")
    assert done.returncode == 0, done.stdout
    task = pd.read_parquet(mine.folder / "results/tasks/first_letter.parquet")
    assert set(task.input) == set(WORDS)
    assert (task.target == task.input.str[0]).all()
    assert set(task.instruction) == {OWN["instruction"]}
    assert set(task.split) == {"train", "validation", "test"}

    # the file is an input: editing it makes the task again
    assert mine.plan("results/tasks/first_letter.parquet") == []
    (mine.folder / "first_letter.csv").write_text("\n".join(["input,target", *ROWS, "moon,m"]) + "\n")
    assert mine.plan("results/tasks/first_letter.parquet") == ["prepare_task task=first_letter"]


def test_editing_a_task_in_the_configuration_makes_that_task_again_only(whole):
    changed = whole.with_config({"data": {"root": str(whole.folder)}})
    assert (
        changed.plan(SUITE / "table1.md") == []
    )  # a folder without files of these names changes none of them
    assert [job for job in whole.with_config({"seed": 1}).plan() if job.startswith("prepare_task")] == sorted(
        f"prepare_task task={path.stem}" for path in (whole.folder / "results/tasks").glob("*.parquet")
    )


def test_vectors_are_added_after_training_where_sets_of_the_suite_and_models_allow(fresh):
    """Not on a set outside of the suite alone, and not where every prompt has weights of its own."""
    outside = fresh.with_config({"interventions": {"sets": ["antonym"]}}).plan()
    assert "plot_interventions" in outside
    assert not [job for job in outside if "recover" in job]
    latent = fresh.with_config({"training": {"methods": ["jfa", "osf", "seqlora"]}}).plan()
    assert [job for job in latent if "recover" in job] == [
        "plot_vector_recovery", "recover method=osf, order=1, seed=0",
        "recover method=seqlora, order=1, seed=0",
    ]  # fmt: skip

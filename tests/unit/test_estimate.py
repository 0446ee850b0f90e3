"""What an experiment is said to cost before it runs."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from anamnesis.commands.estimate import (
    DEVICES,
    FORK_SECONDS,
    READ_RATE,
    Device,
    estimate,
    longest_chain,
    main,
    measured_seconds,
)
from anamnesis.config.load import load_config
from anamnesis.estimate.jobs import FIGURES
from anamnesis.estimate.shape import known_shape

ROOT = Path(__file__).parents[2]
EXPERIMENTS = ROOT / "workflow" / "experiments"
SMALL = known_shape("smollm2-135m", "float32")
DEVICE = Device("test", 1e11)


def config_with(*changes):
    return load_config([ROOT / "config.yaml", EXPERIMENTS / "smoke.yaml", *changes])


def test_run_times_take_the_place_of_counts(tmp_path):
    folder = tmp_path / "train_stage"
    folder.mkdir()
    for name, seconds in (("inclora-order1-seed0-stage1", 10), ("inclora-ivg-order1-seed0-stage1", 30)):
        (folder / f"{name}.tsv").write_text(f"s\th:m:s\n{seconds}\t0\n")
    assert measured_seconds(tmp_path, "train_stage inclora") == [10.0]
    counted_only, refined = (estimate(config_with(), SMALL, DEVICE, 1, place) for place in (None, tmp_path))
    row = refined.set_index("rule").loc["train_stage inclora-ivg"]
    assert (row["source"], row["seconds"]) == ("measured", 30.0 * row["jobs"])
    assert row["row"] == 30.0 * row["in_a_row"]
    assert set(counted_only["source"]) == {"counted"}
    assert counted_only.attrs["hours"] > 0


def test_the_command_says_jobs_hours_and_what_does_not_fit(capsys):
    files = [str(ROOT / "config.yaml"), "--dtype", "bfloat16", "--device", "a100-80gb"]
    assert main([*files, "--model", "llama-2-7b", "--at-once", "4"]) == 0
    said = capsys.readouterr().out
    assert "train_stage inclora-ivg" in said
    assert "6.74 billion weights" in said
    assert "does not fit" not in said
    assert "wait for each other" not in said
    assert main([*files, "--model", "llama-3.1-70b", "--at-once", "100"]) == 0
    said = capsys.readouterr().out
    assert "does not fit on one a100-80gb: model.gpus 2, training.processes 4 (" in said
    assert "jobs that wait for each other" in said
    assert main([*files, "--model", "llama-4-maverick"]) == 0
    said = capsys.readouterr().out
    assert "model.gpus 24, training.processes above 64; a job is on one computer" in said
    assert main(["/nowhere.yaml"]) == 1
    assert "error: configuration file '/nowhere.yaml'" in capsys.readouterr().err


# --- jobs that wait for each other


def test_many_jobs_at_a_time_are_as_fast_as_the_longest_chain():
    config = load_config(ROOT / "config.yaml")
    frames = {n: estimate(config, SMALL, DEVICE, n) for n in (1, 2, 3, 4, 8, 16, 32, 10**9)}
    hours = [frame.attrs["hours"] for frame in frames.values()]
    assert hours == sorted(hours, reverse=True)
    assert hours[0] == pytest.approx(frames[1]["seconds"].sum() / 3600)
    assert hours[1] > frames[2].attrs["chain"]
    assert hours[-2] == hours[-1] == frames[10**9].attrs["chain"]
    row = frames[10**9].set_index("rule")["row"]
    chain = ["prepare_model", "tune_model", "average_activations", "sweep_heads", "rank_heads",
             "train_stage inclora-ivg", FIGURES]  # fmt: skip
    after_training = max(row["recover"], row[["evaluate_stage", "tabulate_results"]].sum())
    assert hours[-1] * 3600 == pytest.approx(row[chain].sum() + after_training)


def test_the_tuning_has_the_cores_of_jobs_that_wait_for_it():
    """Nothing else runs meanwhile, so that its time is divided by cores up to four, and by no number of other
    jobs; on GPUs it has one, as every job.
    """
    config = config_with({"tuning": {"enabled": True}})
    frames = [estimate(config, SMALL, DEVICE, n).set_index("rule") for n in (1, 2, 4, 32)]
    fixed = FORK_SECONDS + SMALL.bytes / READ_RATE
    counted = [frame.loc["tune_model", "seconds"] - fixed for frame in frames]
    assert counted == pytest.approx([counted[0] / cores for cores in (1, 2, 4, 4)])
    assert counted[0] == pytest.approx(frames[0].loc["tune_model", "flops"] / (DEVICE.rate * DEVICE.share))
    alone = frames[1].loc[["prepare_model", "tune_model"], "seconds"].sum()
    others = frames[1]["seconds"].sum() - alone
    assert frames[1].attrs["hours"] * 3600 == pytest.approx(alone + others / 2)
    gpus = [estimate(config, SMALL, DEVICES["a100-80gb"], n).set_index("rule") for n in (1, 4)]
    assert gpus[0].loc["tune_model", "seconds"] == gpus[1].loc["tune_model", "seconds"]


def test_a_tuned_start_costs_its_tuning_and_everything_waits_for_it():
    without, tuned = (
        estimate(config_with({"tuning": {"enabled": on}}), SMALL, DEVICE, 1).set_index("rule")
        for on in (False, True)
    )
    assert set(tuned.index) - set(without.index) == {"tune_model"}
    row = tuned.loc["tune_model"]
    assert (row["jobs"], row["after"]) == (1, ("prepare_model", "prepare_task"))
    assert row["row"] == row["seconds"] > 0
    assert row["disk_bytes"] == 2 * SMALL.bytes
    for rule in ("average_activations", "train_stage inclora", "train_stage inclora-ivg", "evaluate_base"):
        assert "tune_model" in tuned.loc[rule, "after"]
    others = ["jobs", "flops", "seconds", "row"]
    pd.testing.assert_frame_equal(tuned.drop("tune_model")[others], without[others])
    spent = (tuned.attrs[key] - without.attrs[key] for key in ("hours", "chain"))
    assert [3600 * hours for hours in spent] == pytest.approx([row["seconds"]] * 2)


def test_tasks_that_only_the_tuning_has_are_prepared_and_no_more():
    def frame(**tuning):
        config = config_with({"tuning": {"enabled": True, **tuning}})
        return estimate(config, SMALL, DEVICE, 1).set_index("rule")

    plain, more = frame(), frame(tasks=["plural", "english_spanish", "antonym"])
    counts = [f.loc[["prepare_task", "average_activations"], "jobs"].tolist() for f in (plain, more)]
    assert counts[1] == [counts[0][0] + 2, counts[0][1]]  # antonym is there already
    few, many, twice = frame(examples=4), frame(examples=8), frame(examples=4, epochs=2)
    flops = [f.loc["tune_model", "flops"] for f in (few, many, twice)]
    # validation examples are asked before and after, however many examples are trained on
    epoch = frame(examples=4, epochs=3).loc["tune_model", "flops"] - flops[2]
    trained = [f - (flops[0] - epoch) for f in flops]
    assert trained[0] == pytest.approx(epoch)
    assert trained[2] == pytest.approx(2 * trained[0])
    assert (
        1.5 * trained[0] < trained[1] <= 2 * trained[0]
    )  # what prompts of a task share runs once in a batch
    assert flops[0] > trained[0]


def test_stages_wait_for_each_other_and_seeds_do_not():
    one, two = (
        estimate(config_with({"training": {"seeds": seeds}}), SMALL, DEVICE, 10**9) for seeds in ([0], [0, 1])
    )
    assert two["seconds"].sum() > one["seconds"].sum()
    assert two.attrs["hours"] == one.attrs["hours"]
    stages = one.set_index("rule").loc["train_stage inclora"]
    assert stages["in_a_row"] == stages["jobs"] > 1
    assert stages["row"] == pytest.approx(stages["seconds"])


def test_tables_of_other_runs_cost_nothing_to_speak_of(capsys, tmp_path):
    changes = tmp_path / "pool.yaml"
    changes.write_text("training: {seeds: []}\nstatistics: {pool: [elsewhere.parquet]}\n")
    assert main([str(ROOT / "config.yaml"), str(changes)]) == 1
    assert (
        capsys.readouterr()
        .err.strip()
        .endswith("only tables and figures are made, in a minute, without a model")
    )


def test_held_out_sets_after_the_last_stage_alone_save_their_share():
    whole, less = (
        estimate(config_with({"evaluation": {"held_out_stages": s}}), SMALL, DEVICE, 1).set_index("rule")
        for s in ("all", "last")
    )
    assert less.loc["evaluate_stage", "jobs"] == whole.loc["evaluate_stage", "jobs"]
    assert less.loc["evaluate_stage", "seconds"] < 0.9 * whole.loc["evaluate_stage", "seconds"]
    assert less.loc["evaluate_stage", "disk_bytes"] < 0.9 * whole.loc["evaluate_stage", "disk_bytes"]
    for column in ("seconds", "disk_bytes"):
        assert less.loc["evaluate_base", column] == whole.loc["evaluate_base", column]


def test_plain_training_does_not_wait_for_vectors():
    frame = estimate(config_with(), SMALL, DEVICE, 1).set_index("rule")
    assert "rank_heads" not in frame.loc["train_stage inclora", "after"]
    assert "rank_heads" in frame.loc["train_stage inclora-ivg", "after"]


def test_vectors_after_training_are_counted_where_sets_of_the_suite_are_intervened_on():
    shown = {"interventions": {"sets": ["antonym"]}, "suite": {"held_out": ["antonym"]}}
    one, two = (
        estimate(config_with(shown, {"training": {"seeds": seeds}}), SMALL, DEVICE, 1).set_index("rule")
        for seeds in ([0], [0, 1])
    )
    assert (one.loc["recover", "jobs"], two.loc["recover", "jobs"]) == (2, 4)  # one for each chain
    assert {"intervene", "train_stage inclora-ivg"} <= set(one.loc["recover", "after"])
    assert two.loc["recover", "flops"] == pytest.approx(2 * one.loc["recover", "flops"])
    elsewhere = config_with(shown, {"interventions": {"sets": ["plural"]}})
    assert "recover" not in set(estimate(elsewhere, SMALL, DEVICE, 1)["rule"])


def test_the_longest_way_counts():
    """a takes 1, b and c wait for it (10 and 2), d for both (5), e for nothing (12)."""
    rules = [("a", (), 1.0), ("b", ("a",), 10.0), ("c", ("a",), 2.0), ("d", ("b", "c"), 5.0), ("e", (), 12.0)]
    frame = pd.DataFrame(rules, columns=["rule", "after", "row"])
    assert longest_chain(frame) == 16.0
    assert longest_chain(frame[frame["rule"] != "b"]) == 12.0  # a rule without jobs is no detour


# --- published sets that are not here yet


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*_):
        raise AssertionError("nothing is to be fetched")

    monkeypatch.setattr("anamnesis.data.preparation.hub_rows", refuse)


def test_published_experiments_are_estimated_before_any_download(no_network, capsys):
    for name in ("func", "trace", "long"):
        files = [str(ROOT / "config.yaml"), str(EXPERIMENTS / f"{name}.yaml")]
        assert main([*files, "--device", "a100-80gb"]) == 0
        assert "Not here yet, so with the lengths of a table" in capsys.readouterr().out


def test_a_set_that_is_here_is_measured(tmp_path, capsys):
    rows = [("train", "a b"), ("train", "c d"), ("validation", "e f"), ("test", "g h")]
    frame = pd.DataFrame([{"split": split, "input": text, "target": "x"} for split, text in rows])
    frame.to_parquet(tmp_path / "numglue_cm.parquet")
    changes = tmp_path / "own.yaml"
    changes.write_text(
        f"data: {{root: {tmp_path}, sources: [folder, builtin]}}\n"
        "suite: {orders: [[numglue_cm, numglue_ds]], held_out: [antonym]}\n"
        "vectors: {shots: 1}\nevaluation: {shots: 1}\ninterventions: {sets: []}\n"
    )
    assert main([str(ROOT / "config.yaml"), str(changes), "--device", "a100-80gb"]) == 0
    said = capsys.readouterr().out
    assert "Not here yet, so with the lengths of a table (docs/explanation/cost.md): numglue_ds." in said


def test_a_set_that_nothing_is_known_of_is_one_line(capsys, tmp_path):
    changes = tmp_path / "own.yaml"
    changes.write_text("suite: {held_out: [antonymm]}\n")
    assert main([str(ROOT / "config.yaml"), str(changes)]) == 1
    assert "unknown task 'antonymm': did you mean 'antonym'?" in capsys.readouterr().err


def test_flashbacks_of_further_sets_are_prepared_and_trained_on_from_the_first_stage_on():
    def frame(**jfa):
        changes = {"training": {"methods": ["jfa"], "seeds": [0]}, "methods": {"jfa": jfa}}
        return estimate(config_with(changes), SMALL, DEVICE, 1).set_index("rule")

    plain, more = frame(), frame(flashback_tasks=["past_tense", "plural", "sentiment"])
    assert more.loc["prepare_task", "jobs"] == plain.loc["prepare_task", "jobs"] + 2
    assert more.loc["average_activations", "jobs"] == plain.loc["average_activations", "jobs"]
    assert more.loc["train_stage jfa", "flops"] > plain.loc["train_stage jfa", "flops"]


def test_a_task_with_fewer_examples_is_trained_on_for_less():
    config = config_with()
    task = config.suite.orders[0][0]
    few = config_with({"data": {"task_examples": {task: config.data.train_examples // 2}}})
    whole, less = (estimate(c, SMALL, DEVICE, 1).set_index("rule") for c in (config, few))
    trained = less.loc["train_stage inclora", "flops"] / whole.loc["train_stage inclora", "flops"]
    assert 0.5 < trained < 1
    scored = less.loc["evaluate_stage", "flops"] / whole.loc["evaluate_stage", "flops"]
    assert scored == pytest.approx(1, abs=0.01)  # mean lengths are those of other examples

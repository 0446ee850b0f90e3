"""Runs that begin with an instruction-tuned start: what they take from it, and what it depends on."""

import json

import pandas as pd
import pytest
from peft import PeftModel
from transformers import AutoModelForCausalLM

import tiny_models
from runs import CONFIG, MODEL, SUITE, SWEPT, TRAINED, Experiment, stage

TUNING = {"enabled": True, "examples": 5, "batch_size": 4, "lora": {"rank": 2, "alpha": 4}}
TUNED = MODEL / "tuned"


def configured(**changes) -> dict:
    config = CONFIG | {
        "tuning": TUNING,
        "training": CONFIG["training"] | {"methods": ["inclora"], "epochs": 1},
    }
    return config | changes


@pytest.fixture(scope="module")
def tuned(tmp_path_factory) -> Experiment:
    """A run whose model is tuned first, complete."""
    folder = tmp_path_factory.mktemp("tuned")
    source = tiny_models.save_snapshot(folder / "source")
    model = CONFIG["model"] | {"source": f"path:{source}"}
    experiment = Experiment(folder, configured(model=model))
    done = experiment.run()
    assert done.returncode == 0, done.stdout[-3000:]
    return experiment


def test_the_record_says_what_was_tuned_on_and_what_came_of_it(tuned):
    record = json.loads((tuned.folder / TUNED / "tuning.json").read_text())
    held_out = tuned.config["suite"]["held_out"]
    assert record["tasks"] == held_out
    assert record["examples"] == {held_out[0]: 5}
    assert record["steps"] == 2
    assert set(record["accuracy_before"]) == set(record["accuracy_after"]) == set(held_out)
    assert len(pd.read_parquet(tuned.folder / TUNED / "tuning.parquet")) == 2


def test_everything_starts_from_the_tuned_model(tuned):
    whole = str(TUNED / "model")
    for record in (
        f"vectors/{SWEPT}/mean_activations.json",
        "vectors/instruction_vectors.json",
        "small/base/stage0/evaluation.json",
        "small/inclora/order1/seed0/stage1/training.json",
    ):
        inputs = json.loads((tuned.folder / MODEL / record).read_text())["inputs"]
        assert any(path.startswith(whole) for path in inputs), record
        assert not any(path.startswith("results/models") for path in inputs), record
    note = (tuned.folder / stage("inclora", 1) / "adapter" / "README.md").read_text()
    assert "Base model: tiny, tuned (results/tiny/tuned/model)." in note


def test_the_adapter_beside_it_makes_the_tuned_model_of_the_prepared_one(tuned):
    base = AutoModelForCausalLM.from_pretrained(tuned.folder / "results/models/tiny")
    merged = PeftModel.from_pretrained(base, tuned.folder / TUNED / "adapter").merge_and_unload()
    whole = AutoModelForCausalLM.from_pretrained(tuned.folder / TUNED / "model").state_dict()
    for name, weight in merged.state_dict().items():
        assert (weight - whole[name]).abs().max() <= 1e-6, name


def test_the_report_says_what_the_model_before_training_is(tuned):
    page = (tuned.folder / SUITE / "report.html").read_text()
    assert "The model before training is tiny, tuned on 5 training examples of capital_choice." in page
    assert page.index("What was lost") < page.index("Table 1")


@pytest.mark.parametrize(
    ("changes", "stale"),
    [
        ({"tuning": TUNING | {"learning_rate": 1e-4}}, True),
        ({"tuning": TUNING | {"tasks": [TRAINED[0]]}}, True),
        ({"tuning": {"enabled": False}}, True),
        ({"statistics": {"bootstrap_resamples": 60}}, False),
    ],
)
def test_another_tuning_makes_everything_behind_it_stale(tuned, changes, stale):
    planned = Experiment(tuned.folder, tuned.config | changes).plan()
    assert ("tune_model" in planned) == (stale and changes["tuning"].get("enabled", True))
    for rule in ("average_activations", "train_stage", "evaluate_base"):
        assert any(job.split(" ")[0] == rule for job in planned) == stale, rule


def test_a_task_that_only_has_test_rows_is_refused_in_one_line(tuned, tmp_path):
    rows = pd.DataFrame({"input": ["a", "b"], "target": ["A", "B"], "split": "test"})
    rows.to_csv(tmp_path / "letters.csv", index=False)
    data = tuned.config["data"] | {
        "tasks": {"letters": {"path": str(tmp_path / "letters.csv"), "instruction": "Say it."}}
    }
    changed = configured(
        model=tuned.config["model"],
        data=data,
        tuning=TUNING | {"tasks": ["letters"]},
        results="results/other",
    )
    done = Experiment(tmp_path, changed).run()
    assert done.returncode != 0
    lines = [line for line in done.stdout.splitlines() if line.startswith("ERROR ")]
    assert len(lines) == 1, lines
    assert "letters.csv" in lines[0]
    assert "train" in lines[0]


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        (["antonym", "antonym"], "tuning.tasks: 'antonym' is listed 2 times, list it once"),
        (["antonyms"], "tuning.tasks: unknown task 'antonyms': did you mean 'antonym'?"),
    ],
)
def test_tasks_that_cannot_be_are_refused_before_anything_runs(tmp_path, tasks, message):
    done = Experiment(tmp_path, configured(tuning=TUNING | {"tasks": tasks})).run("-n")
    assert done.returncode != 0
    assert message in done.stdout


def test_vectors_of_a_task_that_the_model_never_answers_stop_guided_methods_before_they_train(tuned):
    """A random model answers nothing, so it has no vectors of its tasks."""
    vectors = {**tuned.config["vectors"], "never_answered": "refuse"}
    training = tuned.config["training"] | {"methods": ["inclora", "inclora-ivg"]}
    done = Experiment(tuned.folder, tuned.config | {"vectors": vectors, "training": training}).run()
    assert done.returncode != 0
    lines = [line for line in done.stdout.splitlines() if line.startswith("ERROR ")]
    assert len(lines) == 1, lines
    assert "the model before training answers 0 of 4 prompts of this task" in lines[0]
    assert "set vectors.never_answered to average" in lines[0]
    assert not (tuned.folder / SUITE / "inclora-ivg/order1/seed0/stage1/adapter").exists()

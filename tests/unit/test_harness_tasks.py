"""Tasks of lm-evaluation-harness through the engine: its own numbers, rows of our tables, no foreign code."""

from __future__ import annotations

import random

import numpy as np
import pandas as pd
import pytest
import torch

import tiny_models
from anamnesis.core.artifacts import read_batches, write_parquet
from anamnesis.core.errors import UserError
from anamnesis.core.names import GENERATED
from anamnesis.engine.prefix_engine import PrefixEngine
from anamnesis.evaluation.harness import HARNESS
from anamnesis.evaluation.harness.task_files import check_folder, check_installed
from anamnesis.evaluation.records import COLUMNS, TYPES
from anamnesis.stats.forgetting import SCORED, mean_scores
from harness_tasks import TASKS, write_task, write_tasks

pytest.importorskip("lm_eval", reason="needs the extra harness: pip install 'anamnesis[harness]'")

from lm_eval import simple_evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

from anamnesis.evaluation.harness.run import evaluate_tasks

NAMES = ["sums", "sums_last", "sums_text"]
SHOTS = 2


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_tasks(tmp_path_factory.mktemp("tasks"))


@pytest.fixture(scope="module")
def found(folder):
    """(records, metrics)."""
    engine = PrefixEngine(tiny_models.shared("llama"))
    return evaluate_tasks(engine, tiny_models.tokenizer(), NAMES, folder, SHOTS, batch_tokens=300)


@pytest.fixture(scope="module")
def wanted(folder):
    """What the harness finds by itself, as from its command line."""
    theirs = HFLM(
        pretrained=tiny_models.shared("llama"),
        tokenizer=tiny_models.tokenizer(),
        backend="causal",
        batch_size=1,
    )
    manager = TaskManager(include_path=str(folder), include_defaults=False)
    return simple_evaluate(theirs, tasks=NAMES, num_fewshot=SHOTS, task_manager=manager, bootstrap_iters=0)


def test_every_metric_is_that_of_the_harness(found, wanted):
    metrics = found[1].set_index(["task", "metric"])["value"].to_dict()
    theirs = {
        (task, key.partition(",")[0]): value
        for task, values in wanted["results"].items()
        for key, value in values.items()
        if "," in key and "_stderr" not in key
    }
    assert metrics.keys() == theirs.keys()
    assert {task for task, _ in metrics} == {*TASKS, "sums"}
    assert metrics == pytest.approx(theirs, rel=1e-5)
    assert 0 < metrics["sums_choice", "acc"] < 1


def test_every_document_is_answered_as_by_the_harness(found, wanted):
    records = found[0]
    for name in ("sums_choice", "sums_write", "sums_last"):
        rows, samples = records[records["set"] == name], wanted["samples"][name]
        assert len(rows) == len(samples)
        for row, sample in zip(rows.itertuples(), samples, strict=True):
            assert row.example_id == f"{name}-{sample['doc_id']}"
            assert row.score == sample[row.metric]
            assert row.prompt_sha256 == sample["prompt_hash"]
            if name == "sums_choice":
                sums = [value for value, _ in sample["filtered_resps"]]
                assert row.choice_logprobs == pytest.approx(sums, abs=1e-4)
                assert row.prediction == sample["doc"]["options"][int(np.argmax(sums))]
                assert row.target == sample["doc"]["answer"]
            if name == "sums_write":
                assert row.prediction == sample["filtered_resps"][0]


def test_records_are_those_of_our_sets(found):
    """Of the tasks that have a score for each document: not those with a perplexity alone, and no groups."""
    records, _ = found
    assert list(records) == COLUMNS
    assert list(records["set"].unique()) == ["sums_choice", "sums_write", "sums_last"]
    assert set(records["role"]) == set(records["form"]) == {HARNESS}
    assert set(records["shots"]) == {SHOTS}
    assert records.groupby("set")["scorer"].first().to_dict() == {
        "sums_choice": "sum",
        "sums_write": GENERATED,
        "sums_last": GENERATED,
    }
    assert len(mean_scores([records], "records")) == 3


def test_a_limit_takes_the_first_documents_without_bars_in_the_log(folder, capfd):
    engine = PrefixEngine(tiny_models.shared("llama"))
    records, metrics = evaluate_tasks(engine, tiny_models.tokenizer(), ["sums_choice"], folder, limit=2)
    assert list(records["example_id"]) == ["sums_choice-0", "sums_choice-1"]
    assert set(records["shots"]) == {0}
    assert set(metrics["n"]) == {2}
    assert "it/s" not in "".join(capfd.readouterr())


def test_tasks_without_a_score_per_document_have_no_records(folder, tmp_path):
    engine = PrefixEngine(tiny_models.shared("llama"))
    records, metrics = evaluate_tasks(engine, tiny_models.tokenizer(), ["sums_text"], folder, limit=2)
    assert list(records) == COLUMNS
    assert records.empty
    write_parquet(tmp_path / "harness.parquet", records, TYPES)
    assert mean_scores(read_batches(tmp_path / "harness.parquet", SCORED), "harness.parquet").empty
    assert list(metrics["metric"]) == ["word_perplexity", "bits_per_byte"]


def test_generators_of_the_caller_are_left_alone(folder):
    engine = PrefixEngine(tiny_models.shared("llama"))
    random.seed(5), np.random.seed(5), torch.manual_seed(5)
    wanted = random.random(), np.random.rand(), torch.rand(1)
    random.seed(5), np.random.seed(5), torch.manual_seed(5)
    evaluate_tasks(engine, tiny_models.tokenizer(), ["sums_choice"], folder, SHOTS, 1)
    assert (random.random(), np.random.rand(), torch.rand(1)) == wanted


# ---------------------------------------------------------------- what is refused


def refused(folder, names=("task",)) -> str:
    engine = PrefixEngine(tiny_models.shared("llama"))
    with pytest.raises(UserError) as error:
        evaluate_tasks(engine, tiny_models.tokenizer(), list(names), folder)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("doc_to_text: !function code.run\n", "!function"),
        ("class: !function code.run\n", "!function"),
        ("doc_to_text: !!python/object/apply:os.system ['true']\n", "python/object"),
        ("dataset_path: pandas\n", "dataset_path = 'pandas'"),
        ("unsafe_code: true\n", "unsafe_code"),
        ("include: elsewhere/base.txt\n", "!function"),
        ("include: nowhere.yaml\n", "nowhere.yaml"),
        ("task: [\n", "cannot be read"),
    ],
)
def test_a_folder_of_tasks_runs_no_code(tmp_path, text, named):
    (tmp_path / "code.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\ndef run(doc): return ''\n")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/base.txt").write_text("doc_to_text: !function ../code.run\n")
    (tmp_path / "task.yaml").write_text(f"task: task\n{text}")
    assert named in refused(tmp_path)
    assert not (tmp_path / "ran").exists()


def task_with(folder, **changes):
    write_tasks(folder)
    data = {"data_files": {"test": str(folder / "rows.jsonl")}}
    write_task(folder, "task", {**TASKS["sums_write"], "dataset_kwargs": data, **changes})
    return folder


def test_templates_run_in_a_sandbox(tmp_path):
    escape = "{{ ''.__class__.__mro__[1].__subclasses__() }}"
    assert "unsafe" in refused(task_with(tmp_path, doc_to_text=escape))


def test_a_metric_of_a_hub_is_not_fetched(tmp_path):
    assert "metric 'someones_code'" in refused(task_with(tmp_path, metric_list=[{"metric": "someones_code"}]))


def test_sampling_is_refused_before_anything_is_asked(tmp_path):
    settings = {"until": ["\n"], "do_sample": True, "temperature": 1.0}
    assert "sampling" in refused(task_with(tmp_path, generation_kwargs=settings))


def test_pictures_are_refused(tmp_path):
    assert "images or sound" in refused(task_with(tmp_path, doc_to_image=["q"]))


def test_data_that_are_not_there_are_named(tmp_path):
    data = {"data_files": {"test": str(tmp_path / "none.jsonl")}}
    assert "none.jsonl" in refused(task_with(tmp_path, dataset_kwargs=data))


def test_unknown_names_get_the_nearest(tmp_path, monkeypatch):
    monkeypatch.setattr("lm_eval.tasks.TaskManager.__init__.__defaults__", (None, None, False, None))
    message = refused(write_tasks(tmp_path), ["sums_choise"])
    assert "did you mean 'sums_choice'?" in message


def test_a_folder_without_tasks_is_named(tmp_path):
    with pytest.raises(UserError, match="no task files"):
        check_folder(tmp_path)


def test_without_the_package_the_command_to_install_it_is_named(monkeypatch):
    monkeypatch.setattr("anamnesis.evaluation.harness.task_files.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'anamnesis\[harness\]'"):
        check_installed()


def test_frames_go_through_parquet(found, tmp_path):
    for k, frame in enumerate(found):
        frame.to_parquet(tmp_path / f"{k}.parquet")
        assert list(pd.read_parquet(tmp_path / f"{k}.parquet")) == list(frame)

"""The lengths of published sets are those that a folder of them has, and cover the catalogue."""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd
import pytest

import tiny_models
from anamnesis.data.catalogue import catalogue, sequences
from anamnesis.estimate.lengths import published, published_sets

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from _published_lengths import measure

DATA = {"train_examples": 1500, "validation_examples": 200, "test_examples": 1000}


def test_all_sets_that_the_papers_train_on_are_known_but_those_that_go_by_number():
    trained = {name for tasks in sequences().values() for name in tasks if not name.startswith("task")}
    assert trained < published_sets() < catalogue().keys()
    assert published("task618", DATA) is None


def test_sizes_are_those_asked_for_or_all_there_are():
    large, small = published("ag_news", DATA), published("sentiment", DATA)
    assert (large.train, large.validation, large.test) == (1500, 200, 1000)
    assert (small.train, small.validation, small.test) == (816, 106, 245)
    assert published("ag_news", DATA | {"train_examples": 100_000}).train == 100_000
    assert published("sentiment", DATA | {"train_examples": 10}).train == 10
    assert published("sentiment", DATA | {"task_examples": {"sentiment": 30}}).train == 30
    assert published("ag_news", DATA | {"task_examples": {"sentiment": 30}}).train == 1500


@pytest.mark.parametrize("name", sorted(published_sets()))
def test_lengths_make_sense(name):
    task = published(name, DATA)
    assert task.instruction >= 0
    assert 0 < task.opening < task.question <= 512
    assert task.answer >= 1
    assert task.shared + task.own(0) <= 512
    assert task.own(10) > task.own(0) > 0
    assert task.known == (task.test if all(task.knowledge) else 0)


def test_the_table_is_measured_as_an_estimate_measures(tmp_path):
    rows = [("train", f"{word} one two", "Yes") for word in ("a", "b", "c", "d")]
    rows += [("validation", "x one two", "No"), ("test", "y one two", "No"), ("test", "z one two", "Yes")]
    frame = pd.DataFrame(rows, columns=["split", "input", "target"])
    frame.assign(choices=[["No", "Yes"]] * 7, label=[int(t == "Yes") for t in frame["target"]]).to_parquet(
        tmp_path / "sentiment.parquet"
    )
    measured = measure(str(tmp_path), tiny_models.tokenizer()).set_index("set").loc["sentiment"]
    assert (measured["train"], measured["validation"], measured["test"]) == (4, 1, 2)
    assert measured["ranked"]
    assert measured["measured_on"] == 7
    assert measured["question"] > measured["opening"] > 0

"""The metric of a user's own task: it exists, and fits the form of the task."""

from __future__ import annotations

import subprocess
import sys

import pytest
from task_files import REPOSITORY, write_csv, write_jsonl

from anamnesis.config import load_config
from anamnesis.core.errors import UserError
from anamnesis.evaluation.metrics import METRICS

WRITTEN = "input,target\na,b\n"
RANKED = "input,target,choices\na,b,b|c\n"


def configured(path, metric):
    task = {"path": str(path), "instruction": "Do it.", "metric": metric}
    suite = {"name": "own", "orders": [["mine"]], "held_out": ["antonym"]}
    return load_config({"suite": suite, "interventions": {"sets": []}, "data": {"tasks": {"mine": task}}})


@pytest.mark.parametrize("metric", [None, *METRICS])
def test_written_answers_have_any_metric_of_the_table(tmp_path, metric):
    config = configured(write_csv(tmp_path, WRITTEN), metric)
    assert config.data.tasks["mine"].metric == metric


@pytest.mark.parametrize("metric", [None, "accuracy", "exact_string", "first_character"])
def test_choices_are_ranked_or_written(tmp_path, metric):
    configured(write_csv(tmp_path, RANKED), metric)
    configured(write_jsonl(tmp_path, [{"input": "a", "target": "b", "choices": ["b", "c"]}]), metric)


@pytest.mark.parametrize(
    ("text", "metric", "message"),
    [
        (WRITTEN, "rouge", r"data\.tasks\.mine\.metric: unknown metric 'rouge': did you mean 'rouge_l'\?"),
        (
            WRITTEN,
            "accuracy",
            r"data\.tasks\.mine\.metric = 'accuracy': .*mine\.csv has no column choices to rank; "
            r"set it to null or one of exact_match, .*, or add that column$",
        ),
        (
            RANKED,
            "rouge_l",
            r"data\.tasks\.mine\.metric = 'rouge_l': .*mine\.csv has choices, which are ranked; "
            r"set it to null or one of accuracy, exact_string, first_character, or remove the column c.*",
        ),
        (WRITTEN, "", r"data\.tasks\.mine\.metric = ''"),
    ],
)
def test_one_that_does_not_fit_is_refused_in_one_line(tmp_path, text, metric, message):
    with pytest.raises(UserError, match=message):
        configured(write_csv(tmp_path, text), metric)


def test_a_file_that_is_not_there_is_left_to_the_job_that_reads_it(tmp_path):
    configured(tmp_path / "later.csv", "rouge_l")


def test_the_check_loads_no_torch(tmp_path):
    path = write_csv(tmp_path, WRITTEN)
    code = (
        "import sys; from anamnesis.data.settings import UserTask; "
        "from anamnesis.evaluation.task_metrics import metric_problems; "
        f"task = UserTask(path={str(path)!r}, instruction='Do it.', metric='rouge_l'); "
        "print(list(metric_problems({'mine': task})), 'torch' in sys.modules)"
    )
    environment = {"PYTHONPATH": str(REPOSITORY / "workflow")}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[] False\n"

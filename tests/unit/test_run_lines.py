"""``make run`` shows one line for each job, the time left, and why jobs failed as its last lines."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import pytest
from snakemake_interface_logger_plugins.common import LogEvent
from snakemake_interface_logger_plugins.registry import LoggerPluginRegistry

from snakemake_logger_plugin_anamnesis import Lines, LogHandler

RULES = {1: "prepare_model", 2: "train_stage", 3: "train_stage", 4: "all"}
STAGE = {"method": "inclora", "order": "1", "seed": "0", "stage": "2"}


def record(event=None, at=0.0, message="", level=logging.INFO, path="snakemake/workflow.py", **facts):
    made = logging.LogRecord("snakemake", level, path, 1, message, None, None)
    made.__dict__ |= {"created": at, **facts} | ({} if event is None else {"event": event})
    return made


@pytest.fixture
def lines():
    """Of a run of four jobs that has begun."""
    lines = Lines()
    stats = {"prepare_model": 1, "train_stage": 2, "all": 1, "total": 4}
    assert list(lines.of(record(LogEvent.RUN_INFO, stats=stats))) == [
        "4 jobs: 1 prepare_model, 2 train_stage, 1 all"
    ]
    return lines


def begin(lines, job, at):
    facts = {"jobid": job, "rule_name": RULES[job], "wildcards": STAGE if RULES[job] == "train_stage" else {}}
    assert not list(lines.of(record(LogEvent.JOB_INFO, at, **facts)))


def end(lines, job, at):
    return list(lines.of(record(LogEvent.JOB_FINISHED, at, job_id=job)))


def test_a_job_is_one_line_with_the_time_left_once_the_many_are_timed(lines):
    begin(lines, 1, at=0)
    assert end(lines, 1, at=10) == ["1/4  prepare_model: 10 s"]
    begin(lines, 2, at=10)
    # left: one stage of 30 s and one job of the mean of all, 20 s, one at a time
    assert end(lines, 2, at=40) == ["2/4  train_stage inclora order 1 seed 0 stage 2: 30 s, about 50 s left"]


def test_jobs_at_work_and_jobs_at_once_shorten_the_time_left(lines):
    for job in (1, 2, 3):
        begin(lines, job, at=0)
    end(lines, 1, at=40)
    (said,) = end(lines, 2, at=40)
    # left: `all` for 40 s; of the other stage nothing, as it has taken its 40 s; two at once so far
    assert said.endswith("about 20 s left")


def test_the_first_table_says_when_it_came():
    lines = Lines()
    list(lines.of(record(LogEvent.RUN_INFO, at=100, stats={"first_table": 1, "total": 1})))
    facts = {"jobid": 1, "rule_name": "first_table", "wildcards": {}}
    list(lines.of(record(LogEvent.JOB_INFO, 400, **facts)))
    assert end(lines, 1, at=402) == ["1/1  first_table: 2 s, 5 min after the start"]


def test_the_last_job_has_no_time_left(lines):
    for job in RULES:
        begin(lines, job, at=0)
        (said,) = end(lines, job, at=10)
    assert said == "4/4  all: 10 s"


def test_a_failed_job_is_the_last_line_in_its_own_words(lines, tmp_path):
    log = tmp_path / "a.log"
    log.write_text(
        "2026-01-01 00:00:00,000 INFO anamnesis: loading\n"
        "2026-01-01 00:00:01,000 ERROR anamnesis: data.root = '/nope' does not exist: give a folder\n"
        "2026-01-01 00:00:01,000 DEBUG anamnesis: Traceback\nERROR in a traceback\n"
    )
    begin(lines, 2, at=0)
    failed = record(LogEvent.JOB_ERROR, jobid=2, rule_name="train_stage", log=[str(log)], level=logging.ERROR)
    assert list(lines.of(failed)) == ["failed: train_stage inclora order 1 seed 0 stage 2"]
    look_above = "Exiting because a job execution failed. Look above for error messages"
    assert not list(lines.of(record(message=look_above, level=logging.ERROR)))
    assert list(lines.end()) == [
        "train_stage inclora order 1 seed 0 stage 2: data.root = '/nope' does not exist: give a folder"
    ]


def test_a_killed_job_names_its_log(lines):
    begin(lines, 1, at=0)
    list(lines.of(record(LogEvent.JOB_ERROR, jobid=1, rule_name="prepare_model", log=["/nowhere.log"])))
    assert list(lines.end()) == ["prepare_model: it ended without a word; log: /nowhere.log"]


@pytest.mark.parametrize(
    ("facts", "shown"),
    [
        ({"message": "Building DAG of jobs..."}, False),
        ({"message": "Nothing to be done (all requested files are present and up to date)."}, True),
        ({"message": "An earlier run here was killed", "path": "/workflow/rules/common.smk"}, True),
        ({"message": "no GPU", "level": logging.WARNING}, True),
        ({"message": "WorkflowError: configuration", "level": logging.ERROR}, True),
    ],
)
def test_of_other_messages_those_of_this_project_and_warnings_are_shown(lines, facts, shown):
    facts = {"path": "/site-packages/snakemake/workflow.py", **facts}
    assert bool(list(lines.of(record(**facts)))) == shown


def test_snakemake_knows_the_plugin_and_it_ends_with_the_reasons(capsys):
    assert LoggerPluginRegistry().get_plugin("anamnesis").log_handler is LogHandler
    handler = LogHandler(SimpleNamespace(stdout=False), None)
    handler.lines.failed["a"] = "b"
    handler.close()
    handler.close()
    assert capsys.readouterr().err == "a: b\n"

"""``anamnesis watch`` says how far a run is, from its logs and results alone."""

from __future__ import annotations

import logging
import time
from pathlib import Path

import pytest
import yaml

from anamnesis.commands import run_state, watch
from anamnesis.config.load import load_config
from anamnesis.core import progress
from anamnesis.core.job_logs import FORMAT, first_time, last_error
from anamnesis.core.recovery import claim_folder, hold_folder, is_held
from anamnesis.core.stopwatch import Spent

ROOT = Path(__file__).resolve().parents[2]
TASKS = ["news_topic", "sentiment"]
CHAIN = "inclora-order1-seed0"


@pytest.fixture
def config(tmp_path, monkeypatch):
    """Of two chains of two stages, in a folder where a run is at work."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ANAMNESIS_RUN", "put back afterwards")  # claim_folder changes it
    file = tmp_path / "mine.yaml"
    changes = {
        "suite": {"name": "mine", "orders": [TASKS], "held_out": ["antonym"]},
        "interventions": {"sets": ["antonym"]},
        "training": {"seeds": [0]},
    }
    file.write_text(yaml.safe_dump(changes))
    lock = hold_folder(Path(".snakemake"))
    claim_folder(Path(".snakemake"))
    yield [ROOT / "config.yaml", file]
    lock.close()


def state(paths):
    return run_state.read_run(load_config(paths))


def log(name: str, *lines: str, ago: float = 0.0) -> None:
    """A job's log whose first line was written ``ago`` seconds ago."""
    file = Path("results/logs") / f"{name}.log"
    file.parent.mkdir(parents=True, exist_ok=True)
    at = time.strftime("%Y-%m-%d %H:%M:%S,000", time.localtime(time.time() - ago))
    file.write_text("".join(f"{at} {line}\n" for line in lines))


def ended(seconds: float) -> str:
    return f"INFO anamnesis.core.job: {Spent(seconds, 0.0)}"


def steps(done: int, total: int, note: str = "") -> str:
    return f"INFO anamnesis.core.progress: training: {done} of {total}{note and ', ' + note}"


def result(stage: int, name: str) -> None:
    folder = Path("results/smollm2-135m-instruct/mine/inclora/order1/seed0") / f"stage{stage}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.parquet").touch()


def test_before_anything_is_done_all_chains_wait(config):
    run = state(config)
    assert [(chain.name, chain.doing) for chain in run.chains] == [
        ("inclora order 1 seed 0", "waiting"),
        ("inclora-ivg order 1 seed 0", "waiting"),
    ]
    assert run.alive
    assert watch.last_line(run) == "time left: not known before a stage has ended"


def test_a_stage_at_work_has_its_step_loss_and_time_left(config):
    result(1, "training")
    log(f"train_stage/{CHAIN}-stage1", steps(9, 9, "loss 0.2000"), ended(60))
    log(f"train_stage/{CHAIN}-stage2", steps(0, 8), steps(2, 8, "loss 1.2500"), ago=10)
    log("evaluate_stage/inclora-ivg-order1-seed0-stage1", ended(20))
    chain = state(config).chains[0]
    assert (chain.trained, chain.stages, chain.doing) == (1, 2, "training sentiment 2 of 8")
    assert chain.loss == 1.25
    # three times what it has taken so far, and two evaluations of 20 s
    assert chain.seconds_left == pytest.approx(30 + 2 * 20, abs=5)
    row = next(line for line in watch.lines(state(config)) if line.startswith("inclora order"))
    assert " 1 of 2  training" in row
    assert "1.250" in row


def test_before_a_stage_has_ended_its_pace_is_taken(config):
    log(f"train_stage/{CHAIN}-stage1", steps(1, 4), ago=10)
    log("evaluate_stage/inclora-ivg-order1-seed0-stage1", ended(20))
    # three quarters of 40 s, another stage of 40 s, two evaluations
    assert state(config).chains[0].seconds_left == pytest.approx(30 + 40 + 2 * 20, abs=8)


def test_jobs_of_no_chain_are_shown_and_ended_ones_are_not(config):
    log("sweep_heads/news_topic-1-of-2", "INFO anamnesis.core.progress: sweep news_topic 1/2: 3 of 8")
    log("rank_heads", ended(2))
    assert [(job.name, job.doing) for job in state(config).others] == [
        ("sweep_heads news_topic-1-of-2", "3 of 8")
    ]


def test_logs_that_an_earlier_run_left_do_not_count(config):
    log(f"train_stage/{CHAIN}-stage1", steps(2, 8, "loss 1.0"))
    time.sleep(0.02)
    claim_folder(Path(".snakemake"))
    assert state(config).chains[0].doing == "waiting"


def test_a_failed_job_is_the_last_line(config):
    log("prepare_task/antonym", "ERROR anamnesis: file antonym.csv has no column 'input': add it")
    *_, last = watch.lines(state(config))
    assert last == "prepare_task antonym: file antonym.csv has no column 'input': add it"


def test_a_finished_run_ends_with_its_report_and_first_table(config, capsys):
    for method in ("inclora", "inclora-ivg"):
        for stage in (1, 2):
            folder = Path(f"results/smollm2-135m-instruct/mine/{method}/order1/seed0/stage{stage}")
            folder.mkdir(parents=True)
            (folder / "training.parquet").touch()
            (folder / "evaluation.parquet").touch()
    Path("results/smollm2-135m-instruct/mine/report.html").touch()
    Path("results/smollm2-135m-instruct/mine/table1.md").write_text("| Method |\n| --- |\n| a |\n\nPer cent.")
    assert watch.main(["--once", *map(str, config)]) == 0
    said = capsys.readouterr().out
    assert "| a |" in said
    assert "Per cent" not in said
    assert said.count("2 of 2  done") == 2


def test_without_a_run_it_ends_at_once_with_plain_lines(config, monkeypatch, capsys):
    monkeypatch.setattr(run_state, "is_held", lambda folder: False)
    assert watch.main([*map(str, config)]) == 0
    assert capsys.readouterr().out.endswith("no run is at work here: `make run` goes on where it stopped\n")


def test_plain_lines_are_written_once_until_they_change(config, monkeypatch, capsys):
    looks = iter([True, True, False])
    monkeypatch.setattr(run_state, "is_held", lambda folder: next(looks))
    monkeypatch.setattr(watch, "SECONDS_BETWEEN_LINES", 0)
    assert watch.main([*map(str, config)]) == 0
    assert capsys.readouterr().out.count("inclora order 1 seed 0") == 1


def test_the_terminal_gets_a_table(config):
    from rich.console import Console

    with (console := Console(width=100)).capture() as captured:
        console.print(watch.picture(state(config)))
    assert "inclora order 1 seed 0" in captured.get()


@pytest.mark.parametrize(("given", "status"), [(["--help"], 0), (["/nowhere.yaml"], 1), (["smok"], 1)])
def test_what_cannot_be_watched_is_one_line(given, status, capsys):
    assert watch.main(given) == status
    assert len("".join(capsys.readouterr()).strip().splitlines()) == 1


def test_a_held_folder_is_seen_and_a_free_one_too(tmp_path):
    assert not is_held(tmp_path)
    lock = hold_folder(tmp_path)
    assert is_held(tmp_path)
    lock.close()
    assert not is_held(tmp_path)


def test_progress_is_written_to_the_log_now_and_then_and_read_again(tmp_path, monkeypatch, caplog):
    clock = iter([0.0, 1.0, 6.0, 6.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    handler = logging.FileHandler(tmp_path / "a.log")
    handler.setFormatter(logging.Formatter(FORMAT))
    monkeypatch.setattr(progress.log, "handlers", [handler])
    caplog.set_level(logging.INFO, logger=progress.log.name)  # forgets what is cached of the level too
    with progress.progress(4, "training") as advance:
        advance(1, "loss 3.0")
        advance(2, "loss 2.0")
    text = (tmp_path / "a.log").read_text()
    found = [match.group("done", "total", "note") for match in progress.LINE.finditer(text)]
    assert found == [("0", "4", None), ("3", "4", "loss 2.0"), ("3", "4", "loss 2.0")]
    assert first_time(text) == pytest.approx(time.time(), abs=10)
    assert first_time("") is None
    assert last_error(text) is None


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.4, "0 s"), (99, "99 s"), (100, "2 min"), (5940, "99 min"), (7500, "2 h 05 min")]
)
def test_durations_have_one_or_two_units(seconds, words):
    assert progress.duration(seconds) == words

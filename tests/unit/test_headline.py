"""What a run says at its end: where the results are, and the headline row."""

import shutil
from pathlib import Path

import pytest
import yaml

from anamnesis.commands.headline import headline, main
from anamnesis.config.load import load_experiment
from anamnesis.core.errors import UserError
from anamnesis.core.integrity import write_note
from anamnesis.stats.printed import to_csv
from anamnesis.stats.summary import BASELINE, chain_measures, table1
from report_chains import both_methods


@pytest.fixture
def finished(tmp_path, pytestconfig, monkeypatch):
    monkeypatch.chdir(tmp_path)
    change = tmp_path / "change.yaml"
    change.write_text(yaml.safe_dump({"results": "elsewhere", "suite": {"name": "mine"}}))
    suite = tmp_path / "elsewhere" / "smollm2-135m-instruct" / "mine"
    (suite / "figures").mkdir(parents=True)
    for name in ("summary", "comparisons"):  # the latter is left from a run with methods to compare
        (suite / "figures" / f"{name}.png").write_bytes(b"")
    (suite / "table1.csv").write_text(to_csv(table1(chain_measures(both_methods()), resamples=200)))
    return [str(pytestconfig.rootpath / "config.yaml"), str(change)]


def test_headline_says_where_and_what(finished):
    lines = headline(load_experiment(finished)).split("\n")
    assert lines[0] == "table    elsewhere/smollm2-135m-instruct/mine/table1.md (.csv, .tex)"
    assert lines[1] == "figures  elsewhere/smollm2-135m-instruct/mine/figures/ (summary)"
    assert lines[2] == "report   elsewhere/smollm2-135m-instruct/mine/report.html"
    assert [" ".join(line.split()) for line in lines[5:] if line] == [
        f"{BASELINE} 70.0 n=1",
        "inclora 18.0 ± 2.8 n=2",
        "inclora-ivg 40.0 ± 8.5 n=2",
        "inclora-ivg − inclora +22.0 [-79.6, +123.6] n=2 paired: weak evidence",
    ]


def test_no_report_where_nothing_was_trained(finished):
    with open(finished[1], "a") as change:
        change.write("training: {seeds: []}\nstatistics: {pool: [elsewhere.parquet]}\n")
    assert "report" not in headline(load_experiment(finished))


def test_experiment_of_its_own_name_has_its_own_folder(finished):
    with open(finished[1], "a") as change:
        change.write("experiment: controls\n")
    own = Path("elsewhere/smollm2-135m-instruct/mine/experiments/controls")
    with pytest.raises(UserError, match=str(own / "table1.csv")):
        headline(load_experiment(finished))
    own.mkdir(parents=True)
    shutil.copy(own.parents[1] / "table1.csv", own)
    lines = headline(load_experiment(finished)).split("\n")
    assert lines[0] == f"table    {own}/table1.md (.csv, .tex)"
    assert lines[1] == f"figures  {own}/figures/ (none yet)"
    assert lines[2] == f"report   {own}/report.html"


def test_headline_columns_are_aligned(finished):
    rows = [line for line in headline(load_experiment(finished)).split("\n")[5:8] if line]
    assert len({line.index(".") for line in rows}) == 1
    assert len({line.index("n=") for line in rows}) == 1


def test_headline_ends_with_what_jobs_warned_about(finished):
    suite = Path("elsewhere/smollm2-135m-instruct/mine")
    assert "warned" not in headline(load_experiment(finished))
    for stage in (1, 2):
        file = suite / f"stage{stage}.json"
        file.write_text("{}")
        texts = ["peft: tied weights", *(["x" * 400, *map(str, range(20))] if stage == 2 else [])]
        write_note({}, [file], f"train_stage/stage{stage}", texts)
    lines = headline(load_experiment(finished)).splitlines()
    start = lines.index("Jobs warned of what may concern these numbers (logs: elsewhere/logs)")
    assert lines[start - 1] == ""
    assert lines[start + 1] == "  train_stage/stage1 and 1 more: peft: tied weights"
    assert lines[-1] == "  and 14 more"
    assert len(lines) == start + 10
    assert max(map(len, lines)) < 350


def test_headline_command(finished, capsys):
    assert main(finished) == 0
    assert "In-context accuracy on held-out sets" in capsys.readouterr().out
    assert main([]) == 1  # the default experiment, which was not run here
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "table1.csv cannot be read" in error

"""``anamnesis run``: what Snakemake is called with, what is refused before, when the headline is printed."""

from pathlib import Path

import pytest
import yaml
from snakemake import cli

from anamnesis.commands import run
from anamnesis.commands.run import main, snakemake_arguments
from anamnesis.core.errors import UserError
from runs import ROOT

OWN = ["--logger", "anamnesis", "--snakefile", f"{ROOT}/Snakefile"]
SMOKE = f"{ROOT}/workflow/experiments/smoke.yaml"


@pytest.fixture
def called(tmp_path, monkeypatch):
    """The options that Snakemake is started with, in an empty folder with mine.yaml; it does nothing."""
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text(yaml.safe_dump({"results": "elsewhere"}))
    calls = []

    def start(options, parser):
        calls.append(options)
        return True

    monkeypatch.setattr(cli, "args_to_api", start)
    monkeypatch.setattr(run, "headline", lambda config: f"headline of {config.results}\n")
    return calls


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], OWN),
        (["mine.yaml"], [*OWN, "--configfile", "mine.yaml"]),
        (["smoke", "mine.yaml", "-n"], [*OWN, "-n", "--configfile", SMOKE, "mine.yaml"]),
        (["mine.yaml", "figures", "-c", "4"], [*OWN, "figures", "-c", "4", "--configfile", "mine.yaml"]),
        (["results/tasks/antonym.parquet", "-n"], [*OWN, "results/tasks/antonym.parquet", "-n"]),
        (["--profile", "slurm"], [*OWN, "--profile", f"{ROOT}/workflow/profiles/slurm"]),
        (["--profile", "/etc"], [*OWN, "--profile", "/etc"]),
    ],
)  # fmt: skip
def test_what_snakemake_is_called_with(words, expected):
    assert snakemake_arguments(words) == expected


def test_a_file_comes_before_an_experiment_of_the_same_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("smoke").write_text("results: here")
    assert snakemake_arguments(["smoke"])[-1] == "smoke"


def test_a_file_that_is_not_there_is_refused_in_one_line(called, capsys):
    assert main(["mien.yaml"]) == 1
    assert capsys.readouterr().err.splitlines()[-1].startswith("configuration: configuration file '")
    assert called == []


@pytest.mark.parametrize(
    "words", [["evil.yaml"], ["--configfile", "evil.yaml"], ["-n", "--configfile", "evil.yaml"]]
)
def test_expressions_in_a_configuration_are_refused_before_snakemake_runs_them(words, called, capsys):
    Path("evil.yaml").write_text("__use_yte__: true\n?open('ran', 'w').write('x'):\n  - a\n")
    assert main(words) == 1
    assert capsys.readouterr().err.splitlines()[-1].startswith("configuration: ")
    assert called == []
    assert not Path("ran").exists()


def test_all_cores_unless_the_user_or_a_profile_says_how_many(called):
    for words in ([], ["--cores", "3"], ["--jobs", "2"], ["--profile", "slurm"]):
        assert main(words) == 0
    assert [(options.cores, options.jobs) for options in called] == [
        (cli.parse_cores("all"), None),
        (3, None),
        (None, 2),
        (4, 50),
    ]


@pytest.mark.parametrize(
    ("options", "printed"),
    [
        ("", True), ("--forcerun train_stage", True), ("-k", True), ("--quiet rules", True), ("-n", False),
        ("--quiet rules -n", False), ("-np", False), ("--dry-run", False), ("--dag", False), ("-Fn", False),
        ("--rulegraph mermaid-js", False), ("--unlock", False), ("--touch", False), ("--lint", False),
        ("--report page.html", False), ("--summary", False), ("--list-target-rules", False), ("-l", False),
        ("--list-changes params", False), ("--delete-all-output", False), ("--containerize", False),
        ("--archive a.tar.gz", False), ("--cleanup-metadata a", False), ("--d3dag", False), ("-D", False),
        ("--until rank_heads", False), ("--omit-from train_stage", False), ("figures", False),
    ],
)  # fmt: skip
def test_the_headline_is_printed_where_all_was_made(called, capsys, options, printed):
    """Results that are there already are not those of a plan, or of a part."""
    assert main(["mine.yaml", *options.split()]) == 0
    assert len(called) == 1
    assert capsys.readouterr().out == "headline of elsewhere\n" * printed


def test_the_headline_is_of_what_was_run(called, capsys):
    assert main(["mine.yaml", "--config", "results=own"]) == 0
    assert capsys.readouterr().out == "headline of own\n"


def test_no_headline_of_a_run_that_failed(called, monkeypatch, capsys):
    monkeypatch.setattr(cli, "args_to_api", lambda options, parser: False)
    assert main([]) == 1
    assert capsys.readouterr().out == ""


def test_a_word_that_is_nearly_an_experiment_is_refused(called):
    with pytest.raises(UserError, match="did you mean 'smoke'"):
        snakemake_arguments(["smok"])

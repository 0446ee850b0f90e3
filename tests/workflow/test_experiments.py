"""Several experiments in one folder of results share chains; each has its own tables, figures and report."""

import json

from runs import HEADS, MODEL, SUITE, SWEPT

OWN = ("tabulate_results", "write_report", "plot_")


def own(job: str) -> bool:
    return job.startswith(OWN)


def times(run) -> dict[str, int]:
    return {file: (run.folder / file).stat().st_mtime_ns for file in run.files()}


def test_second_experiment_takes_the_chains_and_leaves_the_first_as_it_was(whole, tmp_path):
    first = whole.copy(tmp_path / "both")
    second = first.with_config({"experiment": "plain", "training": {"methods": ["inclora"]}})
    assert all(map(own, second.plan()))
    warned = "have also inclora-ivg, and are written anew without: set experiment to a name"
    assert warned not in second.run("--dry-run").stdout
    assert warned in second.with_config({"experiment": None}).run("--dry-run").stdout
    before = times(first)
    done = second.run()
    assert done.returncode == 0, done.stdout
    folder = SUITE / "experiments" / "plain"
    made = times(first).keys() - before.keys()
    assert {str(folder / name) for name in ("report.html", "table1.md", "figures/summary.png")} <= made
    assert all(file.startswith(str(folder)) for file in made)
    assert {file: time for file, time in times(first).items() if file in before} == before
    assert "inclora-ivg" in (first.folder / SUITE / "table1.csv").read_text()
    assert "inclora-ivg" not in (first.folder / folder / "table1.csv").read_text()
    assert first.plan() == []
    assert second.plan() == []
    for name in ("report.html", "report.zip"):
        done = second.run("--report", name)
        assert done.returncode == 0, done.stdout
        assert (second.folder / name).stat().st_size > 100_000


def test_more_seeds_train_and_look_at_the_new_ones_alone(whole):
    more = whole.with_config({"experiment": "more", "training": {"seeds": [0, 1]}}).plan()
    further = [job for job in more if not own(job) and job != "first_table"]
    assert {job.split()[0] for job in further} == {"train_stage", "evaluate_stage", "recover"}
    assert all("seed=1" in job for job in further)


def test_another_suite_or_model_has_a_report_of_its_own(whole):
    for change, folder in (
        ({"suite": {"name": "other"}}, MODEL / "other"),
        ({"model": {"name": "second"}}, "results/second/small"),
    ):
        said = whole.with_config(change).run("--dry-run").stdout
        assert f"output: {folder}/report.html" in said
        assert f"output: {SUITE}/report.html" not in said


def test_stages_and_orders_are_those_of_the_suite(fresh):
    """Asked for by path, stage 0 would be trained on the last task of the order."""
    for place in ("order1/seed0/stage0", "order1/seed0/stage3", "order2/seed0/stage1", "order0/seed0/stage1"):
        done = fresh.run("--dry-run", SUITE / "inclora" / place / "adapter")
        assert done.returncode != 0
        assert "No rule to produce" in done.stdout, done.stdout


def test_shards_of_the_command_line_are_those_of_the_jobs(fresh):
    """``--set-scatter`` overrules sweep.shards in paths; what jobs are told must follow."""
    said = fresh.run(HEADS, "--dry-run", "--set-scatter", "sweep=3").stdout
    assert said.count("rule sweep_heads:") == 3
    done = fresh.run(HEADS, "--set-scatter", "sweep=3")
    assert done.returncode == 0, done.stdout
    record = fresh.folder / MODEL / f"vectors/{SWEPT}/causal_effects-3-of-3.json"
    assert json.loads(record.read_text())["params"]["shards"] == 3

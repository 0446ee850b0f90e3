"""What is made again after a change of the code or of the configuration, and what is not (dry runs)."""

from __future__ import annotations

import pandas as pd
import pytest

from runs import HELD_OUT, SUITE, SWEPT, TRAINED, copy_repository

CHAINS = [
    f"method={method}, order=1, seed=0, stage={i}" for method in ("inclora", "inclora-ivg") for i in (1, 2)
]
GUIDED = CHAINS[2:]
SWEEPS = [f"sweep_heads task={SWEPT}, scatteritem={i}-of-2" for i in (1, 2)]
CURVES, SUMMARY = "plot_accuracy_curves", "plot_summary"
REPORT = "write_report"
SUMMARISED = ["tabulate_results", CURVES, SUMMARY, REPORT]
EVALUATED = ["evaluate_base", *(f"evaluate_stage {chain}" for chain in CHAINS), *SUMMARISED]
RECOVERED = [f"recover method={method}, order=1, seed=0" for method in ("inclora", "inclora-ivg")]
GIVEN_BACK = "plot_vector_recovery"
AFTER_RANKING = [
    "build_vectors", "plot_head_effects", f"intervene task={SWEPT}", "plot_interventions",
    *RECOVERED, GIVEN_BACK,
    *(f"{rule} {chain}" for rule in ("train_stage", "evaluate_stage") for chain in GUIDED),
    *SUMMARISED,
]  # fmt: skip


@pytest.fixture
def edited(whole, tmp_path):
    """The finished experiment; a test may edit the code it was made with, which comes back afterwards."""
    copy_repository(tmp_path, whole.root)
    yield whole
    copy_repository(whole.root, tmp_path)


def add_function(experiment, *files: str) -> None:
    """Code that every digest of the modules must see."""
    for file in files:
        path = experiment.root / "workflow" / file
        path.write_text(path.read_text() + "\n\ndef added():\n    return 1\n")


def test_comments_docstrings_and_formatting_change_nothing(edited):
    texts = {path: path.read_text() for path in (edited.root / "workflow").rglob("*.py")}
    described = {path: text for path, text in texts.items() if text.startswith('"""')}
    assert len(described) > 50
    for path, text in described.items():
        path.write_text('"""Rewritten. ' + text[3:] + "\n\n# a comment\n")
    add_function(
        edited, *(f"anamnesis/core/{name}.py" for name in ("progress", "job", "artifacts", "provenance"))
    )  # no number depends on these
    assert edited.plan() == []


def test_editing_a_figure_draws_it_again_and_nothing_else(edited):
    add_function(edited, "anamnesis/figures/curves.py")
    assert edited.plan() == [CURVES, REPORT]


def test_editing_the_sweep_runs_it_again_and_what_follows(edited):
    add_function(edited, "anamnesis/vectors/effects.py")
    assert edited.plan() == sorted([*SWEEPS, "rank_heads", *AFTER_RANKING])


def test_editing_the_evaluation_runs_it_again_and_what_follows(edited):
    add_function(edited, "anamnesis/evaluation/records.py")
    assert edited.plan() == sorted(EVALUATED)


def test_editing_a_script_runs_its_rule_again(edited):
    add_function(edited, "scripts/tabulate_results.py")
    assert edited.plan() == sorted([*SUMMARISED])


def test_editing_data_makes_the_tasks_again(edited):
    table = edited.root / "workflow/anamnesis/data/tables/countries.csv"
    table.write_text(table.read_text() + "\n")
    assert {f"prepare_task task={name}" for name in (*TRAINED, HELD_OUT)} <= set(edited.plan())


@pytest.mark.parametrize(
    ("changes", "jobs"),
    [
        ({"training": {"checkpoint_steps": 9}, "evaluation": {"batch_tokens": 512}}, [REPORT]),
        ({"trackers": {"report_to": ["tensorboard"], "logging_steps": 5}}, []),
        ({"statistics": {"confidence": 0.9}}, [*SUMMARISED, GIVEN_BACK, "plot_head_effects"]),
        ({"evaluation": {"max_new_tokens": 4}}, EVALUATED),
        # two tasks: all stages but the last
        (
            {"evaluation": {"held_out_stages": "last"}},
            [*(f"evaluate_stage {chain}" for chain in CHAINS if chain.endswith("stage=1")), *SUMMARISED],
        ),
        ({"vectors": {"rank_by": "log_probability"}}, ["rank_heads", *AFTER_RANKING]),
        (
            {"interventions": {"examples": 2}},
            [f"intervene task={SWEPT}", "plot_interventions", *RECOVERED, GIVEN_BACK, *SUMMARISED],
        ),
        ({"training": {"methods": ["inclora"]}}, [*SUMMARISED, GIVEN_BACK]),
        (
            {"guidance": {"kl": {"weight": 0.1}}},
            [*(job for job in AFTER_RANKING if "inclora-ivg" in job), GIVEN_BACK, *SUMMARISED],
        ),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_changing_the_configuration_runs_what_depends_on_it(whole, changes, jobs):
    changed = whole.with_config(changes)
    assert changed.plan() == sorted(jobs)


def test_adding_a_seed_leaves_the_finished_chains_alone(whole):
    jobs = whole.with_config({"training": {"seeds": [0, 1]}}).plan()
    new = [job for job in jobs if "seed=" in job]
    assert len(new) == 10  # training and evaluation of two stages, and vectors after the last, of two methods
    assert all("seed=1" in job for job in new)
    # with several seeds the first has a table of its own
    assert sorted(set(jobs) - set(new)) == sorted(["first_table", *SUMMARISED, GIVEN_BACK])


def test_seeds_of_another_run_join_the_table_and_nothing_else_is_made_again(whole, tmp_path):
    mine, elsewhere = whole.copy(tmp_path / "mine"), tmp_path / "accuracy.parquet"
    pd.read_parquet(mine.folder / SUITE / "accuracy.parquet").assign(seed=7).to_parquet(elsewhere)
    pooled = mine.with_config({"statistics": {"pool": [str(elsewhere)]}})
    assert pooled.plan() == sorted(SUMMARISED)
    done = pooled.run(SUITE / "table1.csv")
    assert done.returncode == 0, done.stdout
    assert "Chains of other runs: 2 (" in (mine.folder / SUITE / "table1.md").read_text()
    table = pd.read_csv(mine.folder / SUITE / "table1.csv")
    assert set(table["n"][table["method"].isin(["inclora", "inclora-ivg"])]) == {2}


def test_the_table_needs_held_out_sets_after_the_last_stage_only(whole, tmp_path):
    less = whole.copy(tmp_path / "less").with_config({"evaluation": {"held_out_stages": "last"}})
    done = less.run()
    assert done.returncode == 0, done.stdout
    curves = pd.read_parquet(less.folder / SUITE / "accuracy.parquet")
    assert set(curves["stage"][curves["set"] == HELD_OUT]) == {0, 2}
    for name in ("table1.csv", "table1.md", "held_out.csv"):
        assert (less.folder / SUITE / name).read_bytes() == (whole.folder / SUITE / name).read_bytes()


def test_plan_from_another_folder_is_the_same(whole, tmp_path):
    """``--directory`` decides where results are, not the folder the command is given in."""
    done = whole.run("--dry-run", SUITE / "table1.md", cwd=tmp_path)
    assert "Nothing to be done" in done.stdout
    assert list(tmp_path.iterdir()) == []

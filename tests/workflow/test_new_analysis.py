"""What a new analysis and a new figure touch, and that nothing that was made before goes stale by them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest

from runs import SUITE, copy_repository, stage

PACKAGE = "workflow/anamnesis"
TOY = {
    f"{PACKAGE}/analyses/toy/__init__.py": '''"""Norms of the adapters."""

from anamnesis.analyses.registry import STAGE, Analysis, Measure, Tabulate
from anamnesis.figures.core_figures import FigureEntry

HERE = "anamnesis.analyses.toy"


def analysis(run):
    table, places = run.analyses / "toy.parquet", run.places(run.followed.stages)
    parts = [run.at(place, "toy.parquet") for place in places]
    measure = Measure(
        "weigh_stage",
        f"{HERE}.measure:weigh",
        {"adapters": run.stage_adapters},
        {"table": run.stage / "toy.parquet", "record": run.stage / "toy.json"},
        {"unit": "norm"},
        STAGE,
    )
    join = Tabulate(
        "tabulate_toy",
        "anamnesis.analyses.measured:join",
        {"parts": parts},
        {"table": table},
        {"places": places},
    )
    figure = FigureEntry("toy", f"{HERE}.figure:draw", {"frame": table}, "Norms.", "Dynamics")
    return Analysis("toy", [measure], [join], [figure], [table], f"{HERE}.section:sections")
''',
    f"{PACKAGE}/analyses/toy/measure.py": '''"""The job."""

import pandas as pd
from safetensors.torch import load_file

from anamnesis.core.artifacts import write_parquet
from anamnesis.core.steps import listed


def weigh(adapters, unit, batch_tokens, table):
    tensors = load_file(f"{listed(adapters)[-1]}/adapter_model.safetensors")
    write_parquet(table, pd.DataFrame({unit: [float(tensor.norm()) for tensor in tensors.values()]}))
    return {"tensors": len(tensors)}
''',
    f"{PACKAGE}/analyses/toy/figure.py": '''"""The figure."""

from anamnesis.figures.style import Drawn, new_figure, styled


def draw(frame):
    with styled():
        figure = new_figure(2.0)
        figure.subplots().plot(frame["stage"], frame["norm"], "o")
    return Drawn(figure, frame)
''',
    f"{PACKAGE}/analyses/toy/section.py": '''"""The section."""

from anamnesis.report.builder import Section


def sections(results):
    said = f"{len(results.frames['toy'])} tensors."
    return [Section("Toy", pictures=[results.picture("toy", "Points", [said])])]
''',
}
NAMES = f"{PACKAGE}/analyses/__init__.py"
PROFILE = "workflow/profiles/slurm/config.yaml"
GUIDE = "docs/how-to/cluster.md"  # of GPUs: it lists all rules that load a model


@pytest.fixture
def edited(whole, tmp_path):
    """A copy of the finished experiment; the code that it was made with comes back afterwards."""
    code = copy_repository(tmp_path / "code", whole.root)
    yield whole.copy(tmp_path / "run")
    shutil.rmtree(whole.root / "workflow")
    copy_repository(whole.root, code)


def insert(root: Path, file: str, before: str, text: str) -> None:
    content = (root / file).read_text()
    assert before in content
    (root / file).write_text(content.replace(before, text + before, 1))


def test_an_analysis_touches_seven_files_and_makes_nothing_stale(edited):
    for file, text in TOY.items():
        path = edited.root / file
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    insert(edited.root, NAMES, '"settings_tables"', '"toy", ')
    insert(edited.root, PROFILE, "  - write_report=", "  - plot_toy=summary\n  - tabulate_toy=summary\n")
    assert len({*TOY, NAMES, PROFILE, GUIDE}) <= 7

    assert edited.plan() == []
    planned = [job.split()[0] for job in edited.plan("analyses")]
    assert {name: planned.count(name) for name in ("weigh_stage", "tabulate_toy", "plot_toy")} == {
        "weigh_stage": 4, "tabulate_toy": 1, "plot_toy": 1,
    }  # fmt: skip
    done = edited.run(str(SUITE / "dynamics/toy.parquet"))
    assert done.returncode == 0, done.stdout
    table = pd.read_parquet(edited.folder / SUITE / "dynamics/toy.parquet")
    assert list(table.columns) == ["method", "order", "seed", "stage", "norm"]
    assert (edited.folder / stage("inclora", 2) / "toy.json").exists()
    assert edited.plan() == ["plot_toy", "write_report"]  # from now on it is shown
    done = edited.run()
    assert done.returncode == 0, done.stdout
    text = (edited.folder / SUITE / "report.html").read_text()
    assert f"{len(table)} tensors." in text
    assert "Norms." in text


def test_a_figure_of_a_table_touches_three_files_and_makes_the_report_again(edited):
    figure = f"{PACKAGE}/figures/spread.py"
    (edited.root / figure).write_text(
        TOY[f"{PACKAGE}/analyses/toy/figure.py"].replace('"stage"', '"seed"').replace('"norm"', '"hp"')
    )
    registry = f"{PACKAGE}/figures/core_figures.py"
    entry = 'FigureEntry("spread", "anamnesis.figures.spread:draw", measures, "Seeds.", FORGETTING),'
    insert(edited.root, registry, '        _entry("head_effects"', f"        {entry}\n")
    insert(edited.root, PROFILE, "  - write_report=", "  - plot_spread=summary\n")
    assert len({figure, registry, PROFILE}) <= 3
    assert edited.plan() == ["plot_spread", "write_report"]
    done = edited.run(str(SUITE / "figures/spread.png"))
    assert done.returncode == 0, done.stdout


def test_editing_an_analysis_makes_only_its_own_results_again(edited):
    """Its figures from the table on; the report as soon as it is shown."""
    folder = f"{PACKAGE}/analyses/robustness"
    before = [job for job in edited.plan("analyses") if "robustness" not in job]
    for file in ("measure.py", "figure.py", "section.py", "__init__.py"):
        path = edited.root / folder / file
        path.write_text(path.read_text() + "\n\ndef added():\n    return 1\n")
    assert edited.plan() == []
    assert [job for job in edited.plan("analyses") if "robustness" not in job] == before

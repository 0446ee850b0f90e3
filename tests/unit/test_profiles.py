"""The profiles fit together and name what exists."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from anamnesis.config.load import load_config
from anamnesis.figures.core_figures import core_figures
from registered import registered, run_of

ROOT = Path(__file__).resolve().parents[2]
DEFAULTS = ROOT / "config.yaml"
DEFAULT, SLURM = (
    yaml.safe_load((ROOT / "profiles" / name / "config.yaml").read_text(encoding="utf-8"))
    for name in ("default", "slurm")
)


def rules() -> dict[str, str]:
    """Name and text of each that is written out, and the names of those that registries define."""
    files = (ROOT / "workflow" / "rules").glob("*.smk")
    text = "".join(file.read_text() for file in files)
    parts = re.split(r"^ *(?:use rule (\w+) as (\w+) with|rule (\w*)):", text, flags=re.MULTILINE)
    written: dict[str, str] = {}
    for base, derived, name, body in zip(*(parts[k::4] for k in (1, 2, 3, 4)), strict=True):
        if derived or name:
            written[derived or name] = written.get(base, "") + body
    analyses = registered("smoke.yaml")
    figures = [figure for analysis in analyses for figure in analysis.figures]
    return {
        **written,
        **{f"plot_{figure.name}": "" for figure in (*figures, *core_figures(run_of(load_config(DEFAULTS))))},
        **{step.name: "" for analysis in analyses for step in analysis.tables},
        **{step.name: "gpu=DEMANDS.gpus" for analysis in analyses for step in analysis.measures},
    }


def test_profiles_used_together_do_not_contradict_each_other():
    """Of an option in both, Snakemake takes that of profiles/default, whatever --profile says."""
    assert not DEFAULT.keys() & SLURM.keys()


def test_groups_are_of_rules_there_are():
    """A rule that was renamed would silently become many small jobs."""
    grouped = dict(entry.split("=") for entry in SLURM["groups"])
    assert grouped.keys() <= rules().keys()
    assert {entry.split("=")[0] for entry in SLURM["group-components"]} <= set(grouped.values())
    assert {name for name in rules() if name.startswith("plot_")} <= grouped.keys()


def test_the_guide_names_all_rules_that_use_a_gpu():
    """One left out would ask in a way that the site does not understand."""
    using = {name for name, text in rules().items() if re.search(r"DEMANDS\.\w*gpus", text)}
    guide = (ROOT / "docs" / "how-to" / "cluster.md").read_text(encoding="utf-8")
    settings = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", guide, re.DOTALL)]
    (named,) = [each["set-resources"] for each in settings if "set-resources" in each]
    assert named.keys() == using

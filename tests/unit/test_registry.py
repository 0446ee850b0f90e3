"""The registries of analyses and figures: their functions exist and get what they ask for."""

from __future__ import annotations

import ast
import html
import inspect
from collections.abc import Iterable
from pkgutil import resolve_name
from types import SimpleNamespace

import pytest
from docutils.core import publish_parts
from jinja2 import Template

from anamnesis.analyses import NAMES
from anamnesis.config.load import load_config
from anamnesis.figures.core_figures import core_figures
from registered import ROOT, registered, run_of

PACKAGE = ROOT / "workflow" / "anamnesis" / "analyses"
ANALYSES = registered("smoke.yaml")
CORE = core_figures(run_of(load_config([ROOT / "config.yaml"])))
FIGURES = [*CORE, *(figure for analysis in ANALYSES for figure in analysis.figures)]
MEASURES = [measure for analysis in ANALYSES for measure in analysis.measures]
TABLES = [table for analysis in ANALYSES for table in analysis.tables]


def problems(call: str, given: Iterable[str], more: bool = False) -> list[str]:
    """Arguments that a function does not take, and, unless it is given ``more``, those that it lacks."""
    parameters = inspect.signature(resolve_name(call)).parameters.values()
    named = {p.name for p in parameters if p.kind is not p.VAR_KEYWORD}
    needed = {p.name for p in parameters if p.name in named and p.default is p.empty}
    unknown = set() if len(named) < len(parameters) else set(given) - named
    return sorted(unknown | (set() if more else needed - set(given)))


@pytest.mark.parametrize("entry", MEASURES, ids=lambda entry: entry.name)
def test_measuring_functions_get_their_arguments(entry):
    given = {*entry.inputs, *entry.outputs, *entry.params, "batch_tokens"} - {"record"}
    assert problems(entry.call, given, more=bool(entry.unpacked)) == []


@pytest.mark.parametrize("entry", TABLES, ids=lambda entry: entry.name)
def test_tabulating_functions_get_their_arguments(entry):
    assert problems(entry.call, {*entry.inputs, *entry.params}) == []


@pytest.mark.parametrize("entry", FIGURES, ids=lambda entry: entry.name)
def test_drawing_functions_get_their_arguments(entry):
    assert problems(entry.call, {*entry.inputs, *entry.params}) == []
    assert entry.caption.strip().endswith(".")


def test_names_of_rules_and_figures_are_unique():
    names = [entry.name for entry in (*MEASURES, *TABLES, *FIGURES)]
    assert len(set(names)) == len(names)
    assert [analysis.name for analysis in ANALYSES] == list(NAMES)
    assert sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py")) == sorted(NAMES)


def test_no_analysis_imports_another_one_or_a_registration():
    for name in NAMES:
        for file in (PACKAGE / name).glob("*.py"):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.ImportFrom) and node.module.startswith("anamnesis.analyses."):
                    package, *module = node.module.split(".")[2:]
                    assert package not in {*NAMES} - {name}, f"{file}: {node.module}"
                    assert module or package not in NAMES, f"{file}: {node.module}"


@pytest.mark.parametrize("entry", FIGURES, ids=lambda entry: entry.name)
def test_captions_are_plain_text_in_snakemakes_report(entry):
    """As ``snakemake --report`` renders them; marks of reStructuredText in them would show as errors."""
    template = Template((ROOT / "workflow" / "report" / "figure.rst").read_text(encoding="utf-8"))
    caption = " ".join(entry.caption.split())
    text = template.render(snakemake=SimpleNamespace(params=SimpleNamespace(caption=caption)))
    shown = publish_parts(text, writer_name="html", settings_overrides={"report_level": 1})["body"]
    assert html.unescape(shown).strip() == f"<p>{caption}</p>"

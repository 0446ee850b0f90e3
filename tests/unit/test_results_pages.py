"""Pages of results open with the answer in three bullets, and their numbers are the committed ones."""

from __future__ import annotations

import re

import pandas as pd
import pytest

from doc_blocks import ROOT

PAGES = ("default-experiment", "methods-compared", "inside-found")
ANSWERS = {"Helps", "Harms", "Undecided", "As published", "Not as published"}


def text_of(page: str) -> str:
    return (ROOT / f"docs/explanation/{page}.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES)
def test_the_answer_comes_first_then_a_figure(page):
    before, _, _ = text_of(page).partition("![")
    answers = re.findall(r"^\* \*\*([^*]+)\*\*", before, flags=re.MULTILINE)
    assert len(answers) == 3
    assert set(answers) <= ANSWERS
    assert "\n## " not in before


def test_the_claims_are_those_of_the_committed_table():
    claims = pd.read_csv(ROOT / "workflow/reference/untuned/claims.csv", dtype=str)
    for row in claims.itertuples():
        assert f"| {row.claim} | {row.published} | {row.here} | {row.n} |\n" in text_of("inside-found")


def test_the_conditions_are_those_of_the_committed_table():
    table = pd.read_csv(ROOT / "workflow/reference/untuned/conditions.csv")
    means = 100 * table[table["method"].isna()].groupby("letter")[["accuracy", "random"]].mean()
    shown = [means.accuracy["c"], means.accuracy["d"], means.accuracy["a"], means.random["c"]]
    pattern = r"\((\d+) % and (\d+) % of three sets; without it (\d+) %, with a random vector (\d+) %\)"
    said = re.search(pattern, text_of("inside-found"))
    assert [f"{value:.0f}" for value in shown] == list(said.groups())


def test_the_levels_of_the_readme_and_the_page_are_those_of_the_committed_table():
    table = pd.read_csv(ROOT / "workflow/reference/default/table1.csv")
    levels = table[table["kind"] == "level"].set_index(["method", "measure"])["mean"]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for method in ("before training", "`inclora`", "`inclora-ivg`"):
        (row,) = re.findall(rf"^\| {re.escape(method)} \| (.*) \|$", readme, flags=re.MULTILINE)
        found = [cell.split(" ")[0] for cell in row.split(" | ")]
        assert found == [f"{100 * levels[method.strip('`'), name]:.1f}" for name in ("hp", "ip", "op")]
    page = text_of("default-experiment")
    for name, title in (("hp", "HP, five sets"), ("ip", "IP, five sets")):
        (row,) = re.findall(rf"^\| {title} \| (.*) \|$", page, flags=re.MULTILINE)
        before, plain, _, guided = row.split(" | ")
        wanted = [levels[method, name] for method in ("before training", "inclora", "inclora-ivg")]
        assert [before, plain, guided] == [f"{100 * value:.1f}" for value in wanted]

"""A report made once from small frames, opened from disk in Chromium; skipped where there is none."""

from __future__ import annotations

import shutil
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from anamnesis.figures.bars import summary_bars
from anamnesis.figures.style import save_figure
from anamnesis.report import ExperimentResults, build_report, experiment_sections
from anamnesis.report.glossary import ABBREVIATIONS, TITLE
from anamnesis.stats.chart_tables import task_effects
from anamnesis.stats.held_out import held_out_table
from anamnesis.stats.summary import chain_measures, curves_frame, table1
from report_answers import hostile_answers
from report_chains import both_methods

sync_api = pytest.importorskip(
    "playwright.sync_api", reason="playwright is not installed: pip install playwright"
)
NAMES = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="session")
def results(tmp_path_factory) -> ExperimentResults:
    folder = tmp_path_factory.mktemp("report")
    chains = both_methods()
    measures = chain_measures(chains)
    stem = folder / "summary"
    save_figure(summary_bars(measures), measures, stem)
    names = ("summary", "accuracy_curves", "head_effects", "interventions")
    for name in names[1:]:
        shutil.copy(f"{stem}.png", folder / f"{name}.png")
    rng = np.random.default_rng(0)
    places = [(f"p{p}", layer, head) for p in range(4) for layer in range(6) for head in range(4)]
    prompts = pd.DataFrame(places, columns=["prompt_id", "layer", "head"])
    effects = {name: prompts.assign(effect=rng.normal(0, 0.1, len(prompts)), log_effect=0.0) for name in "ab"}
    heads = pd.concat(effects.values()).groupby(["layer", "head"])["effect"].mean().reset_index()
    heads = heads.sort_values("effect", ascending=False, ignore_index=True)
    heads = heads.assign(
        rank=heads.index + 1, standard_error=0.05, n_prompts=8, n_tasks=2, selected=heads.index < 3
    )
    layers = [("x", split, layer, condition, base, 0.4 + 0.05 * layer, 20)
              for split in ("test", "validation")
              for base, condition in (("zero-shot", "add"), ("few-shot", "remove"))
              for layer in range(6)]  # fmt: skip
    layers += [
        ("x", "test", -1, "none", "zero-shot", 0.3, 20),
        ("x", "test", -1, "few-shot", "few-shot", 0.7, 20),
    ]
    interventions = pd.DataFrame(
        layers, columns=["set", "split", "layer", "condition", "base", "accuracy", "n"]
    )
    return ExperimentResults(
        config={
            "model": {"name": "tiny"},
            "suite": {"name": "s", "orders": [["a", "b"]], "held_out": ["x"]},
            "training": {"methods": ["inclora", "inclora-ivg"], "seeds": [0, 1]},
            "vectors": {"rank_by": "probability"},
        },
        table=table1(measures, resamples=200),
        curves=curves_frame(chains),
        heads=heads,
        interventions=interventions,
        figures={name: folder / f"{name}.png" for name in names},
        captions={name: f"Caption of {name}." for name in names},
        held_out=held_out_table(chains, {}, resamples=200),
        records={"stage1": {"rule": "train_stage", "seconds": 30.0}},
        prompts=pd.DataFrame([("x", "clean", "a prompt", " up")], columns=["task", "kind", "text", "target"]),
        answers=hostile_answers(),
        task_effects=task_effects(effects),
        measures=measures,
    )


@pytest.fixture(scope="session")
def report(results):
    """The page on disk."""
    path = results.figures["summary"].with_name("report.html")
    return build_report(
        experiment_sections(results), path, "Anamnesis: s · tiny", abbreviations=ABBREVIATIONS, glossary=TITLE
    )


@pytest.fixture(scope="session")
def browser():
    path = next(filter(None, map(shutil.which, NAMES)), None)
    with sync_api.sync_playwright() as playwright:
        try:
            # as root, which runs these tests in a container, Chromium starts without its sandbox only
            launched = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        except sync_api.Error as error:
            pytest.skip(
                f"no Chromium to test the report in (install the package chromium): {error.message[:80]}"
            )
        yield launched
        launched.close()


@pytest.fixture
def opened(browser, report):
    """A function that opens the report and returns the page; ``seen`` has what the browser complained
    about and asked for.
    """
    contexts = []

    def open_page(width: int = 1200, scripts: bool = True, whole: bool = False):
        context = browser.new_context(viewport={"width": width, "height": 900}, java_script_enabled=scripts)
        contexts.append(context)
        page = context.new_page()
        page.seen = SimpleNamespace(messages=[], requests=[], dialogs=[])
        page.on("console", lambda message: page.seen.messages.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: page.seen.messages.append(str(error)))
        page.on("request", lambda request: page.seen.requests.append(request.url))
        page.on("dialog", lambda dialog: (page.seen.dialogs.append(dialog.message), dialog.dismiss()))
        page.goto(report.as_uri())
        if scripts and whole:
            draw_all(page)
        return page

    yield open_page
    for context in contexts:
        context.close()


def draw_all(page) -> None:
    """Scroll through the page, as charts are drawn when they come near."""
    for figure in page.locator("figure:has(.chart)").all():
        figure.scroll_into_view_if_needed()
    page.wait_for_function(
        "document.querySelectorAll('figure.drawn').length === document.querySelectorAll('.chart').length"
    )

"""How far each stage moves the model on the inputs of its task, and whether that predicts forgetting, as
arXiv 2509.04259 finds.
"""

from __future__ import annotations

from anamnesis.analyses.registry import STAGE, Analysis, Measure, Tabulate
from anamnesis.core.run import Run
from anamnesis.figures.core_figures import FigureEntry

HERE = "anamnesis.analyses.shift"
CAPTION = """\
    After every stage: KL(M_0 || M_t) on test prompts of the task that the stage has learnt, against the
    zero-shot accuracy that held-out sets have lost since before training (mean over the sets). Left: at the
    last prompt token; right: mean over the tokens of the right answer. Points: chains and stages; ρ:
    Spearman's correlation over them with its bootstrap interval."""


def analysis(run: Run) -> Analysis:
    table, places = run.analyses / "shift.parquet", run.places(run.followed.stages)
    statistics = {"statistics": run.intervals}
    return Analysis(
        "shift",
        [_measure(run)],
        [
            Tabulate(
                "tabulate_shift",
                f"{HERE}.tables:tabulate",
                {"parts": [run.at(place, "shift.parquet") for place in places], "curves": run.curves},
                {"table": table},
                {"places": places},
            )
        ],
        [FigureEntry("shift", f"{HERE}.figure:draw", {"frame": table}, CAPTION, "Dynamics", statistics)],
        [table],
        f"{HERE}.section:sections",
        asked=run.config.analyses.shift.examples > 0,
    )


def _measure(run: Run) -> Measure:
    def task(wildcards):
        return run.tasks / f"{run.trained_task(wildcards)}.parquet"

    return Measure(
        "measure_shift",
        f"{HERE}.measure:measure",
        {"snapshot": run.snapshot, "task": task, "adapters": run.stage_adapters},
        {"table": run.stage / "shift.parquet", "record": run.stage / "shift.json"},
        {
            "model": run.model,
            "examples": run.config.analyses.shift.examples,
            "prompts": run.settings["prompts"],
            "seed": run.config.seed,
        },
        STAGE,
    )

"""Heads from step to step within a stage, which is trained once more for it."""

from __future__ import annotations

from anamnesis.analyses.registry import STAGE, Analysis, Measure, Tabulate
from anamnesis.core.run import Run
from anamnesis.figures.core_figures import FigureEntry

HERE = "anamnesis.analyses.within_stage"
CAPTION = """\
    One stage, trained once more to the same weights and measured on the way, on held-out sets. From left to
    right: causal effects (eq. 2 of arXiv 2406.12227) of the heads in S, of those that rise most in the stage
    and of those that fall most, added up; the norms of such heads' outputs at the last token of few-shot
    prompts; accuracy, where greedy decoding has to begin with the answer; and the change of every head's
    effect over the stage, S outlined. Bands: 95 % interval over prompts of the change since the start.
    Whiskers: 95 % Wilson interval over examples. The heads that rise and fall most are chosen on one half of
    the prompts and their effects added up on the other (norms: chosen on all prompts), as noise alone would
    make some rise: where such a group does not rise there, which heads rise cannot be told."""


def analysis(run: Run) -> Analysis:
    table, asked = run.analyses / "within_stage.parquet", run.config.analyses.within_stage
    places = run.places(sorted(asked.stages) if asked.points else [])
    unit = {"unit": run.config.vectors.rank_by}
    return Analysis(
        "within_stage",
        [_measure(run)],
        [
            Tabulate(
                "tabulate_within_stage",
                "anamnesis.analyses.measured:join",
                {"parts": [run.at(place, "within_stage.parquet") for place in places]},
                {"table": table},
                {"places": places},
            )
        ],
        [FigureEntry("within_stage", f"{HERE}.figure:draw", {"frame": table}, CAPTION, "Dynamics", unit)],
        [table],
        f"{HERE}.section:sections",
        asked=bool(places),
    )


def _measure(run: Run) -> Measure:
    analyses = run.config.analyses
    return Measure(
        "watch_stage",
        f"{HERE}.rerun:watch",
        {
            "snapshot": run.snapshot,
            "adapter": run.stage / "adapter",
            "ranking": run.heads,
            "set_tables": run.task_files(run.held_out),
            "set_prompts": run.prompt_files(run.held_out),
        },
        {"table": run.stage / "within_stage.parquet", "record": run.stage / "within_stage.json"},
        {
            **run.training_params(),
            "sets": run.held_out,
            "analyses": {"examples": analyses.examples, "effect_prompts": analyses.effect_prompts},
            "asking": {
                "target": run.config.vectors.target,
                "rank_by": run.config.vectors.rank_by,
                "shots": run.config.evaluation.shots,
                "seed": run.config.seed,
            },
            "points": analyses.within_stage.points,
        },
        STAGE,
        unpacked=[run.stage_inputs],
        needs="training",
        time="watch_stage",
    )

"""Vectors, heads and conditions at every checkpoint (arXiv 2406.12227, figures 3 to 5 and 7, apps. E and F).

``trace``        the job of a checkpoint, with its model loaded once; ``measure``: all measures of one set
``alignment``    cosine of hidden states with the instruction vector
``vector_drift`` the vector before and after, next to random head sets
``conditions``   accuracy with and without vectors
``wordings``     accuracy under other wordings of the instruction (for open_questions)
``sufficiency``  what the vector leaves out, and what further heads add (for open_questions)
``tables``       the tables of all checkpoints, and what the figures show of them; ``changes``: of accuracy
``claims``       the paper's numbers and this run's
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from anamnesis.analyses.registry import STAGE, Analysis, Measure, Tabulate
from anamnesis.core.run import Run
from anamnesis.figures.core_figures import FigureEntry

HERE = "anamnesis.analyses.checkpoints"
TABLES = ("alignment", "drift", "conditions", "heads")
CAPTIONS = {
    "form_changes": """\
        Change of accuracy from before training to after the last stage, in points, by form of the task
        (figure 3 of arXiv 2406.12227). Bars: mean over chains; points: chains; whiskers: one s.d.""",
    "conditions": """\
        Accuracy in seven conditions (figure 4): (a) to (e) before training, (f) and (g) after the last stage.
        Right: greedy decoding begins with the answer. Vectors are added, or removed, after the layer where
        adding was best on validation examples before training; crosses: a random vector of equal norm there.
        Whiskers: 95 % Wilson interval over examples.""",
    "alignment": """\
        Zero-shot accuracy, and the largest cosine over the layers between the hidden states at the last
        prompt token and the instruction vector of the model before training (figure 5a).""",
    "drift": """\
        Above: cosine of the instruction vector with that before training, and of random sets of as many
        heads (band: one s.d. over the draws). Below: few-shot accuracy, and the same with the heads' outputs
        as they were before training (figure 5b).""",
    "effect_maps": """\
        Mean causal effect of every head after each stage (figure 5c). Outlined: the head set S of the model
        before training; above each map, how many of the model's own strongest heads are in S. Stage 0 is
        measured on the same few prompts, so that its number shows what the sample alone changes.""",
    "recovery": """\
        After the last stage: accuracy when a vector is added to zero-shot prompts after one layer (figure 7).
        Dotted: prompts without intervention. Grey mark: the layer chosen before training. The figure
        vector_recovery of the run itself shows all chains at the layer chosen for its interventions.""",
}


def analysis(run: Run) -> Analysis:
    tables = {name: run.analyses / f"{name}.parquet" for name in TABLES}
    places = run.places((0, *run.followed.stages))
    traces = {
        name: [run.at(place, f"{file}.parquet") for place in places]
        for name, file in {**{n: n for n in TABLES[:3]}, "effects": "causal_effects"}.items()
    }
    return Analysis(
        "checkpoints",
        [_measure(run, base=True), _measure(run, base=False)],
        [
            Tabulate(
                "tabulate_dynamics",
                f"{HERE}.tables:tabulate",
                {**traces, "initial": run.heads},
                {**{f"all_{n}": path for n, path in tables.items()}, "record": run.analyses / "tables.json"},
                {"places": places, "rank_by": run.config.vectors.rank_by},
            )
        ],
        _figures(run, tables),
        list(tables.values()),
        f"{HERE}.section:sections",
    )


def _figures(run: Run, tables: Mapping[str, Any]) -> list[FigureEntry]:
    frames = {name: {"frame": path} for name, path in tables.items()}
    drawn = {
        "form_changes": ("form_changes", {"curves": run.curves}, {}),
        "conditions": ("conditions_figure", frames["conditions"], {}),
        "alignment": ("alignment_figure", {**frames["alignment"], "curves": run.curves}, {}),
        "drift": ("drift_figure", {**frames["drift"], "conditions": tables["conditions"]}, {}),
        "effect_maps": ("effect_maps", frames["heads"], {"unit": run.config.vectors.rank_by}),
        "recovery": ("recovery_figure", frames["conditions"], {}),
    }
    return [
        FigureEntry(name, f"{HERE}.{module}:draw", inputs, CAPTIONS[name], "Dynamics", params)
        for name, (module, inputs, params) in drawn.items()
    ]


def _measure(run: Run, base: bool) -> Measure:
    """One checkpoint. The model before training leaves the later ones what they are compared with."""
    sets, last = run.followed.sets, run.followed.stages[-1]
    folder, kept = run.base if base else run.stage, run.base / "initial_heads.safetensors"
    outputs = {
        "alignment": folder / "alignment.parquet",
        "drift": folder / "drift.parquet",
        "conditions": folder / "conditions.parquet",
        "effects": folder / "causal_effects.parquet",
        "wordings": folder / "wordings.parquet",
        "record": folder / "trace.json",
    }
    inputs = {
        "snapshot": run.snapshot,
        "heads": run.heads,
        "tasks": run.task_files(sets),
        "prompt_tables": run.prompt_files(sets),
        "worded": run.task_files(run.paraphrases),
    }
    if base:
        outputs |= {"sufficiency": folder / "sufficiency.parquet", "kept": kept}
        of_place = {"every_layer": False, "wording": _wording(run, run.paraphrases)}
    else:
        inputs |= {"adapters": run.stage_adapters, "initial": kept}
        words = _wording(run, run.paraphrases), _wording(run, {})
        of_place = {"every_layer": _at_last(last, True, False), "wording": _at_last(last, *words)}
    return Measure(
        "trace_base" if base else "trace_stage",
        f"{HERE}.trace:trace",
        inputs,
        outputs,
        {"sets": sets, "model": run.model, "asking": _asking(run), **of_place},
        "" if base else STAGE,
    )


def _at_last(last: int, then: Any, before: Any) -> Callable:
    """Of one value for the stage ``last`` and another one for those before it."""
    return lambda wildcards: then if int(wildcards.stage) == last else before


def _asking(run: Run) -> dict[str, Any]:
    """What all checkpoints are asked."""
    analyses = run.settings["analyses"]
    return {
        **{key: analyses[key] for key in ("examples", "layers", "effect_prompts", "random_sets")},
        "target": run.config.vectors.target,
        "shots": run.config.evaluation.shots,
        "prompts": run.settings["prompts"],
        "seed": run.config.seed,
    }


def _wording(run: Run, paraphrases: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """How the sets with other wordings are evaluated; asked in those words only where ``paraphrases`` has
    any.
    """
    return {
        "sets": [
            {
                "name": name,
                "role": run.roles[name],
                "max_new_tokens": run.answer_length(name),
                "metric": run.metric(name) or "accuracy",
            }
            for name in run.paraphrases
        ],
        "paraphrases": paraphrases,
        "scoring": {
            "scorer": run.config.evaluation.scorer,
            "max_input_tokens": run.config.training.max_input_tokens,
        },
    }

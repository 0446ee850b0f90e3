"""Why a model forgets: the measures of arXiv 2601.18699 (v1), at every stage of a chain.

``probes``       fixed examples of every set, and one pass over them that all measures share
``watching``     what is read off the model in that pass; ``routing``: which experts tokens go to
``gradients``    interference: cosines of the gradients of tasks at the same weights
``representation_drift``  similarity of representations: linear CKA, rotation of principal subspaces
``disruption``   heads whose attention or output changed, shift of the load of experts
``curvature``    eigenvalue and trace of the Hessian of a task's loss, and a slice through that loss
``landscape``    those, for the first task of a chain as later tasks are learnt
``probe``        the jobs: all of these for one model; ``tables``: all stages together
``comparison``   forgetting, and what may predict it
``last_stage``   one number per chain, so that methods can be compared
``claims``       the paper's numbers and this run's; ``columns``: words that tables share

The paper's own text does not define its measures; docs/explanation/mechanisms.md says what is computed
here instead.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from anamnesis.analyses.registry import STAGE, Analysis, Measure, Tabulate
from anamnesis.core.run import Run
from anamnesis.figures.core_figures import FigureEntry

HERE = "anamnesis.analyses.mechanisms"
ONE_MODEL = ("gradients", "similarity", "losses")
TRAINED_MODEL = ("drift", "heads", "routing", "landscape")
FIGURES = {
    "interference": ("figure:draw_interference", "interference", """\
        Gradients of the tasks learnt before: cosine with that of the new task, and the share of probes that
        conflict, by stage, matrix and layer"""),
    "drift": ("figure:draw_drift", "drift", """\
        Representations at the last prompt token: similarity (CKA) with those before training, and rotation of
        their principal subspaces"""),
    "disruption": ("figure:draw_disruption", "heads", """\
        Heads whose output or attention at the last prompt token differs from the model before training, by
        depth and by cut-off"""),
    "landscape": ("forgetting_figure:draw_landscape", "landscape", """\
        Loss of the first task as later ones are learnt: top eigenvalue and trace of its Hessian, and a slice
        along the top eigenvector"""),
    "predictors": ("forgetting_figure:draw_predictors", "pairs", """\
        What a stage takes from a set, as a rise of its loss, against what may predict it"""),
}  # fmt: skip
CAPTION = "{} (after arXiv 2601.18699, v1; docs/explanation/mechanisms.md has the definitions)."


def analysis(run: Run) -> Analysis:
    folder = run.experiment / "mechanisms"
    texts = {name: folder / f"{name}.csv" for name in ("comparison", "predictors", "claims")}
    return Analysis(
        "mechanisms",
        [_probe_base(run), _probe_stage(run)],
        [_tabulate(run, folder, texts)],
        _figures(run, folder, texts),
        list(texts.values()),
        f"{HERE}.section:sections",
        further=[folder / "mechanisms.md"],
    )


def _figures(run: Run, folder: Path, texts: dict[str, Path]) -> list[FigureEntry]:
    numbers = {"predictors": {"associations": texts["predictors"]}}
    cutoffs = {"cutoffs": run.settings["mechanisms"]["cutoffs"]}
    return [
        FigureEntry(
            f"mechanisms_{name}",
            f"{HERE}.{call}",
            {"frame": folder / f"{table}.parquet", **numbers.get(name, {})},
            CAPTION.format(" ".join(caption.split())),
            "Mechanisms",
            cutoffs if name == "disruption" else {},
        )
        for name, (call, table, caption) in FIGURES.items()
    ]


def _tabulate(run: Run, folder: Path, texts: dict[str, Path]) -> Tabulate:
    mechanisms, base = run.config.mechanisms, run.base / "mechanisms"
    methods, seeds = mechanisms.methods or run.summed, mechanisms.seeds or run.config.training.seeds[:1]
    chains = [c for c in run.chains if c["method"] in methods and c["seed"] in seeds]
    stages = [{**chain, "stage": s} for chain in chains for s in range(1, len(run.train_tasks) + 1)]
    parquet = ("interference", "drift", "heads", "routing", "landscape", "pairs")
    return Tabulate(
        "tabulate_mechanisms",
        f"{HERE}.tables:tabulate",
        {
            "curves": run.curves,
            "vectors": [run.vectors / task / "instruction_vector.safetensors" for task in run.roles],
            "reference": run.reference / "mechanisms_claims.csv",
            **{f"base_{name}": base / f"{name}.parquet" for name in ONE_MODEL},
            **{
                name: [run.at(place, f"mechanisms/{name}.parquet") for place in stages]
                for name in (*ONE_MODEL, *TRAINED_MODEL)
            },
        },
        {
            **{f"all_{name}": folder / f"{name}.parquet" for name in parquet},
            **{f"all_{name}": path for name, path in texts.items()},
            "all_markdown": folder / "mechanisms.md",
            "record": folder / "mechanisms.json",
        },
        {
            "sets": list(run.roles),
            "chains": chains,
            "orders": run.settings["suite"]["orders"],
            "cutoffs": run.settings["mechanisms"]["cutoffs"],
            "statistics": run.intervals,
        },
    )


def _probe_base(run: Run) -> Measure:
    folder = run.base / "mechanisms"
    return Measure(
        "probe_base",
        f"{HERE}.probe:probe_base",
        {"snapshot": run.snapshot, "tasks": run.task_files(run.roles)},
        {
            "states": folder / "states.safetensors",
            **{name: folder / f"{name}.parquet" for name in ONE_MODEL},
            "record": folder / "probes.json",
        },
        _params(run),
        needs="gradients",
        time="train_stage",
    )


def _probe_stage(run: Run) -> Measure:
    folder = run.stage / "mechanisms"
    return Measure(
        "probe_stage",
        f"{HERE}.probe:probe_stage",
        {
            "snapshot": run.snapshot,
            "tasks": run.task_files(run.roles),
            "states": run.base / "mechanisms" / "states.safetensors",
            "adapters": run.stage_adapters,
        },
        {
            **{name: folder / f"{name}.parquet" for name in (*ONE_MODEL, *TRAINED_MODEL)},
            "record": folder / "probes.json",
        },
        {**_params(run), "followed": lambda wildcards: run.trained_task(wildcards, 1)},
        STAGE,
        needs="gradients",
        time="train_stage",
    )


def _params(run: Run) -> dict[str, Any]:
    """What all models are measured with."""
    mechanisms = run.settings["mechanisms"]
    return {
        "sets": list(run.roles),
        "model": run.model,
        "prompts": run.settings["prompts"],
        "seed": run.config.seed,
        "mechanisms": {k: v for k, v in mechanisms.items() if k not in ("methods", "seeds", "cutoffs")},
    }

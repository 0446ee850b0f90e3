"""Questions that the papers leave open, from what the checkpoints' job has measured."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from anamnesis.analyses.registry import Analysis, Tabulate
from anamnesis.core.run import Run
from anamnesis.figures.core_figures import FigureEntry

HERE = "anamnesis.analyses.open_questions"
CAPTIONS = {
    "guidance_gain": """\
        Why does guidance help new knowledge on simple instructions only? Zero-shot accuracy on each training
        task after the last stage, guided minus plain, against the length of the task's instruction and the
        variety of the answers it is trained on. Points: means over chains; whiskers: their range.""",
    "wordings": """\
        Does what is learnt and forgotten depend on the words of the instruction? Accuracy of each set under
        its own instruction and under paraphrases that nothing was trained on, before training and after the
        last stage. Bars: mean and one s.d. over the paraphrases.""",
    "sufficiency": """\
        Is θ all there is? Before training: few-shot accuracy, and zero-shot accuracy with θ of the heads in S
        and of 10, 20 and 50 more, by causal effect or at random. Layers are chosen on validation examples,
        for random heads as for those by effect. Bars and band: bootstrap interval over examples.""",
}


def analysis(run: Run) -> Analysis:
    tables = {name: run.analyses / f"{name}.parquet" for name in CAPTIONS}
    places = run.places((0, run.followed.stages[-1]))
    return Analysis(
        "open_questions",
        [],
        [
            Tabulate(
                "tabulate_open_questions",
                f"{HERE}.tables:tabulate",
                {
                    "snapshot": run.snapshot,
                    "wordings": [run.at(place, "wordings.parquet") for place in places],
                    "sufficiency": run.base / "sufficiency.parquet",
                    "curves": run.curves,
                    "tasks": run.task_files(run.train_tasks),
                },
                {
                    **{f"all_{name}": path for name, path in tables.items()},
                    "record": run.analyses / "open_questions.json",
                },
                {"places": places, "trained": run.train_tasks},
            )
        ],
        _figures(run, tables),
        list(tables.values()),
        f"{HERE}.section:sections",
    )


def _figures(run: Run, tables: Mapping[str, Path]) -> list[FigureEntry]:
    drawn = {
        "guidance_gain": ("guidance_gain", {}, bool(run.paired_methods)),
        "wordings": ("wordings_figure", {}, bool(run.paraphrases)),
        "sufficiency": ("sufficiency_figure", {"statistics": run.intervals}, True),
    }
    return [
        FigureEntry(
            name,
            f"{HERE}.{module}:draw",
            {"frame": tables[name]},
            CAPTIONS[name],
            "Dynamics",
            params,
            shown=shown,
        )
        for name, (module, params, shown) in drawn.items()
    ]

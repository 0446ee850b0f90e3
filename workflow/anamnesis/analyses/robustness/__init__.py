"""How much vectors, of heads and optimised, depend on the prompts they are made from."""

from __future__ import annotations

from anamnesis.analyses.registry import Analysis, Measure, Tabulate
from anamnesis.core.run import Run
from anamnesis.figures.core_figures import FigureEntry

HERE = "anamnesis.analyses.robustness"
CAPTION = """\
    Vectors of the model before training, made from disjoint draws of prompts: sums of the mean outputs of the
    heads in S, and vectors found by gradient descent on the answers to the same examples, of at most the same
    norm. Above: cosine between two draws, and between the two vectors of one draw. Below: zero-shot accuracy
    on test examples with the vector added after the layer chosen on validation examples. Points: draws or
    pairs of draws; lines: means; whiskers: one s.d. over them. S itself is the same in all draws."""


def analysis(run: Run) -> Analysis:
    table, folder = run.analyses / "robustness.parquet", run.base / "robustness"
    asked = bool(run.config.analyses.robustness.prompts)
    return Analysis(
        "robustness",
        [_measure(run)],
        [
            Tabulate(
                "tabulate_robustness",
                "anamnesis.analyses.measured:join",
                {"parts": [folder / f"{name}.parquet" for name in (run.held_out if asked else ())]},
                {"table": table},
            )
        ],
        [FigureEntry("robustness", f"{HERE}.figure:draw", {"frame": table}, CAPTION, "Vectors")],
        [table],
        f"{HERE}.section:sections",
        asked=asked,
    )


def _measure(run: Run) -> Measure:
    vectors = run.config.vectors
    optimised = run.settings["vectors"]["optimised"]
    return Measure(
        "measure_robustness",
        f"{HERE}.measure:measure",
        {
            "snapshot": run.snapshot,
            "task": run.tasks / "{task}.parquet",
            "heads": run.heads,
            "initial": run.base / "initial_heads.safetensors",
        },
        {
            "table": run.base / "robustness" / "{task}.parquet",
            "record": run.base / "robustness" / "{task}.json",
        },
        {
            "name": "{task}",
            "model": run.model,
            "robustness": run.settings["analyses"]["robustness"],
            "optimised": {key: optimised[key] for key in ("batch_size", "learning_rate", "norm")},
            "asking": {
                "shots": vectors.shots,
                "include_instruction": vectors.include_instruction,
                "examples": run.config.analyses.examples,
            },
            "prompts": run.settings["prompts"],
            "max_input_tokens": run.config.training.max_input_tokens,
            "seed": run.config.seed,
        },
        "{task}",
        time="measure_robustness",
    )

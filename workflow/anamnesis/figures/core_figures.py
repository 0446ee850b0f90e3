"""The figures of every run: what each is drawn from, by which function, and its caption.

The function, "module:function", gets the contents of the tables and the params, and returns
``figures.style.Drawn``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from anamnesis.core.run import Run

FORGETTING, VECTORS = "Forgetting", "Vectors"  # categories of Snakemake's report


@dataclass(frozen=True)
class FigureEntry:
    """A figure, ``<name>.pdf``, ``.png`` and ``.csv``. ``texts``: endings of further files, for
    ``Drawn.texts``; ``shown``: whether this run has something to show in it.
    """

    name: str
    call: str
    inputs: Mapping[str, Path | Sequence[Path]]
    caption: str
    category: str
    params: Mapping[str, Any] = field(default_factory=dict)
    texts: Sequence[str] = ()
    shown: bool = True


CAPTIONS = {
    "accuracy_curves": """\
        Accuracy after the stages, set by set. Stage 0 is the model before training; the grey mark shows the
        stage at which a set's own task was trained. Bands: one standard deviation over seeds.""",
    "summary": """\
        Accuracy after the last stage: mean over chains, one point per chain, whiskers of one s.d.; the dotted
        line is the model before training.""",
    "guidance_effect": """\
        From every chain of a method (hollow) to the one of the same order and seed with guidance.""",
    "variants": """\
        Methods under other settings, one point per chain, in the orders and seeds that all of a comparison
        have; the settings are in the configuration.""",
    "comparisons": """\
        Differences between methods, pair by pair of order and seed, with their means and intervals.
        Forgetting is better when lower.""",
    "head_effects": """\
        Mean causal effect of every attention head (eq. 2 of arXiv 2406.12227): change of the right answer's
        probability when the head's output on a prompt with shuffled labels is replaced by its mean over
        intact prompts. Outlined: the heads the instruction vector is made of.""",
    "interventions": """\
        Accuracy on test examples when the instruction vector is added to zero-shot prompts or removed from
        few-shot prompts after one layer, compared with a random vector of equal norm. Triangles: the layers
        chosen on validation examples.""",
    "vector_recovery": """\
        Accuracy on test examples when the instruction vector θ of the model before training is added to
        zero-shot prompts, before training and after the last stage (after figure 7 of arXiv 2406.12227). The
        layer is the one where adding θ helped most on validation examples before training. Lines: intervals
        of the gain of θ, for three chains or more. The analyses on request draw every layer, and the vector
        of the trained model itself, for the seeds they follow (figure recovery).""",
}


def core_figures(run: Run) -> list[FigureEntry]:
    """In the order of the report. Tables of other runs alone have nothing of a model to show."""
    chance, held_out = {"statistics": run.intervals}, {"held_out": run.experiment / "held_out.csv"}
    curves, heads = {"frame": run.curves}, {"frame": run.heads, "effects": run.effects}
    measures, added = {"frame": run.experiment / "measures.parquet"}, {"frames": run.interventions}
    given_back = {"recovered": run.recovered, "interventions": run.recovered_interventions}
    ranked = {"unit": run.config.vectors.rank_by, "tasks": run.ranked_tasks}
    ranked["confidence"] = run.intervals["confidence"]
    several = {"comparisons": run.comparisons}
    pairs = {"compared": run.compared, **chance}
    return [
        _entry("accuracy_curves", "curves", {**curves, **held_out}, FORGETTING),
        _entry("summary", "bars", {**measures, **held_out}, FORGETTING),
        _entry(
            "guidance_effect", "guidance_effect", measures, FORGETTING, chance, len(run.paired_methods) >= 2
        ),
        _entry("variants", "variant_panels", measures, FORGETTING, several, bool(run.comparisons)),
        _entry("comparisons", "paired_differences", measures, FORGETTING, pairs, bool(run.compared)),
        _entry("head_effects", "effect_map", heads, VECTORS, ranked, bool(run.chains), "_by_task.csv"),
        _entry(
            "interventions", "intervention_panels", added, VECTORS, {}, bool(run.chains and run.interventions)
        ),
        _entry(
            "vector_recovery",
            "recovered_accuracy",
            given_back,
            VECTORS,
            chance,
            bool(run.recovered),
            "_gain.csv",
        ),
    ]


def _entry(
    name: str,
    module: str,
    inputs: Mapping[str, Any],
    category: str,
    params: Mapping[str, Any] = MappingProxyType({}),
    shown: bool = True,
    *texts: str,
) -> FigureEntry:
    call = f"anamnesis.figures.{module}:draw"
    return FigureEntry(name, call, inputs, CAPTIONS[name], category, params, texts, shown)

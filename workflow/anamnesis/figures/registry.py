"""The figures of every run: what each is drawn from, by which function, and its caption.

The function, "module:function", gets the contents of the tables and the params, and returns
``figures.style.Drawn``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
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


def core_figures(run: Run) -> list[FigureEntry]:
    """In the order of the report. Tables of other runs alone have nothing of a model to show."""
    curves, held_out = run.curves, run.suite / "held_out.csv"
    measures = {"frame": run.suite / "measures.parquet"}
    statistics = {"statistics": run.intervals}
    return [
        FigureEntry(
            "accuracy_curves",
            "anamnesis.figures.curves:draw",
            {"frame": curves, "held_out": held_out},
            """\
            Accuracy after the stages, set by set. Stage 0 is the model before training; the grey mark shows
            the stage at which a set's own task was trained. Bands: one standard deviation over seeds.""",
            FORGETTING,
        ),
        FigureEntry(
            "summary",
            "anamnesis.figures.bars:draw",
            {**measures, "held_out": held_out},
            """\
            Accuracy after the last stage: mean over chains, one point per chain, whiskers of one s.d.; the
            dotted line is the model before training.""",
            FORGETTING,
        ),
        FigureEntry(
            "twins",
            "anamnesis.figures.twins:draw",
            measures,
            "From every chain of a method (hollow) to the one of the same order and seed with guidance.",
            FORGETTING,
            statistics,
            shown=len(run.twins) >= 2,
        ),
        FigureEntry(
            "variants",
            "anamnesis.figures.variants:draw",
            measures,
            """\
            Methods under other settings, one point per chain, in the orders and seeds that all of a
            comparison have; the settings are in the configuration.""",
            FORGETTING,
            {"comparisons": run.comparisons},
            shown=bool(run.comparisons),
        ),
        FigureEntry(
            "comparisons",
            "anamnesis.figures.paired_differences:draw",
            measures,
            """\
            Differences between methods, pair by pair of order and seed, with their means and intervals.
            Forgetting is better when lower.""",
            FORGETTING,
            {"compared": run.compared, **statistics},
            shown=bool(run.compared),
        ),
        FigureEntry(
            "head_effects",
            "anamnesis.figures.heads:draw",
            {"frame": run.heads},
            """\
            Mean causal effect of every attention head (eq. 2 of arXiv 2406.12227): change of the right
            answer's probability when the head's output on a prompt with shuffled labels is replaced by its
            mean over intact prompts. Outlined: the heads the instruction vector is made of.""",
            VECTORS,
            {"unit": run.config.vectors.rank_by},
            shown=bool(run.chains),
        ),
        FigureEntry(
            "interventions",
            "anamnesis.figures.intervention_panels:draw",
            {"frames": run.interventions},
            """\
            Accuracy on test examples when the instruction vector is added to zero-shot prompts or removed
            from few-shot prompts after one layer, compared with a random vector of equal norm. Triangles: the
            layers chosen on validation examples.""",
            VECTORS,
            shown=bool(run.chains and run.interventions),
        ),
        FigureEntry(
            "vector_recovery",
            "anamnesis.figures.recovered_accuracy:draw",
            {"recovered": run.recovered, "interventions": run.recovered_interventions},
            """\
            Accuracy on test examples when the instruction vector θ of the model before training is added to
            zero-shot prompts, before training and after the last stage (after figure 7 of arXiv 2406.12227).
            The layer is the one where adding θ helped most on validation examples before training. Lines:
            intervals of the gain of θ, for three chains or more. The analyses on request draw every layer,
            and the vector of the trained model itself, for the seeds they follow (figure recovery).""",
            VECTORS,
            statistics,
            texts=["_gain.csv"],
            shown=bool(run.recovered),
        ),
    ]

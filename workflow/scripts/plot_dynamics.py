"""The figures of what happens inside the models from stage to stage: PDF, PNG and the data shown as CSV."""

from collections.abc import Sequence
from pathlib import Path

from anamnesis.analyses.checkpoints import alignment_figure as alignments
from anamnesis.analyses.checkpoints import changes, tables
from anamnesis.analyses.checkpoints import conditions_figure as seven
from anamnesis.analyses.checkpoints import drift_figure as drifts
from anamnesis.analyses.checkpoints.effect_maps import effect_maps
from anamnesis.analyses.checkpoints.form_changes import form_changes
from anamnesis.analyses.checkpoints.recovery_figure import recovery
from anamnesis.core.artifacts import read_parquet
from anamnesis.figures.style import save_figure


def main(
    alignment: str,
    drift: str,
    conditions: str,
    heads: str,
    curves: str,
    unit: str,
    pdf: Sequence[str],
    png: Sequence[str],
    csv: Sequence[str],
) -> None:
    """Write three files per figure, named after it. ``unit``: the scale on which heads were ranked."""
    traced, accuracy = read_parquet(conditions), read_parquet(curves)
    alike = tables.alignment_table(read_parquet(alignment), accuracy)
    changed = changes.form_changes(accuracy)
    moved = tables.drift_table(read_parquet(drift), traced)
    compared, recovered = tables.condition_table(traced), tables.recovery_table(traced)
    ranked = read_parquet(heads)
    made = {
        "form_changes": (form_changes(changed), changed),
        "conditions": (seven.conditions(compared), compared),
        "alignment": (alignments.alignment(alike, tables.correlations(alike)), alike),
        "drift": (drifts.drift(moved), moved),
        "effect_maps": (effect_maps(ranked, unit), ranked),
        "recovery": (recovery(recovered), recovered),
    }
    for path in map(Path, pdf):
        save_figure(*made[path.stem], path.with_suffix(""))


if __name__ == "__main__":
    from anamnesis.core.job import run_job

    run_job(snakemake, main)

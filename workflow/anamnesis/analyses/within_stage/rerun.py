"""The job that trains a stage once more and writes what happens to its heads on the way."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from anamnesis.analyses.within_stage.measure import Asked, asked, difference, watched
from anamnesis.analyses.within_stage.tables import within_table
from anamnesis.core.artifacts import read_parquet, write_parquet
from anamnesis.core.steps import listed
from anamnesis.data.chat import template_for
from anamnesis.data.prompts import Template
from anamnesis.training.build import BuiltStage, build_from_files
from anamnesis.training.stage_files import StageFiles
from anamnesis.vectors.instruction import selected_heads

HOW = ("needs", "seed", "model", "training", "settings", "prompts", "batch_tokens")
"""Settings of a stage that ``training.prepare.prepare_stage`` takes by these names."""


def watch(
    adapter: str,
    ranking: str,
    set_tables: Sequence[str],
    set_prompts: Sequence[str],
    sets: Sequence[str],
    prompts: Mapping[str, Any],
    analyses: Mapping[str, Any],
    asking: Mapping[str, Any],
    points: int,
    batch_tokens: int,
    table: str,
    method: str,
    guidance: Mapping | None = None,
    **stage: Any,
) -> dict:
    """Write ``table`` (parquet, ``within_stage.tables.within_table``). ``adapter``: what the stage ended with
    before. ``ranking``: of all heads before training; ``set_tables``, ``set_prompts``: of ``sets``, in that
    order; ``asking``: ``target``, ``rank_by``, ``shots`` and ``seed`` of the questions; ``stage``: files and
    settings of the training (:func:`_built`).
    """
    built = _built(prompts=prompts, method=method, guidance=guidance, batch_tokens=batch_tokens, **stage)
    prepared = built.method.stage
    tables = zip(sets, listed(set_tables), listed(set_prompts), strict=True)
    template = template_for(prompts, prepared.tokenizer)
    questions = _questions(prepared.tokenizer, tables, template, analyses, asking)
    how = asking["target"], asking["rank_by"], batch_tokens
    looks = watched(built.method, built.objective, questions, points, *how)
    apart = difference(prepared.engine.model, adapter)
    if prepared.world.rank == 0:
        selected = selected_heads(read_parquet(ranking, ["layer", "head", "selected"]))
        write_parquet(table, within_table(looks, selected).assign(difference=apart))
    return {"steps": [look.step for look in looks], "largest_difference_from_stored_weights": apart}


def _built(
    snapshot: str,
    task: str,
    method: str,
    guidance: Mapping | None,
    stage: int,
    earlier: Sequence[str] = (),
    past: Sequence[str] = (),
    task_means: Sequence[str] = (),
    **given: Any,
) -> BuiltStage:
    """The stage ready to be trained. ``given``: its settings, and files that some methods need."""
    how = {key: given.pop(key) for key in HOW}
    files = StageFiles(snapshot, task, listed(earlier), listed(past), task_means=listed(task_means), **given)
    return build_from_files(method, files, guidance, number=stage, **how)


def _questions(
    tokenizer, tables: Iterable[tuple[str, str, str]], template: Template, analyses: Mapping, asking: Mapping
) -> dict[str, Asked]:
    """``tables``: of each set the name, the task and the in-context prompts."""
    numbers = asking["shots"], analyses["effect_prompts"], analyses["examples"], asking["seed"]
    return {
        name: asked(tokenizer, read_parquet(task), name, read_parquet(shown), template, *numbers)
        for name, task, shown in tables
    }

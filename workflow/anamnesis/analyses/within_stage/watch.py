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
from anamnesis.training.build import build
from anamnesis.training.guidance import guided_additions
from anamnesis.training.prepare import prepare_stage
from anamnesis.training.stage_files import StageFiles
from anamnesis.vectors.instruction import selected_heads


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
    settings of the training (:func:`_prepared`).
    """
    prepared, files = _prepared(prompts=prompts, batch_tokens=batch_tokens, **stage)
    additions = None
    if guidance:
        branches = files.heads, files.mean, files.prompt_table, files.task_means
        additions = guided_additions(prepared, guidance, *branches)
    chosen, objective = build(method, prepared, guidance, additions)
    tables = zip(sets, listed(set_tables), listed(set_prompts), strict=True)
    template = template_for(prompts, prepared.tokenizer)
    questions = _questions(prepared.tokenizer, tables, template, analyses, asking)
    how = asking["target"], asking["rank_by"], batch_tokens
    looks = watched(chosen, objective, questions, points, *how)
    apart = difference(prepared.engine.model, adapter)
    if prepared.world.rank == 0:
        selected = selected_heads(read_parquet(ranking, ["layer", "head", "selected"]))
        write_parquet(table, within_table(looks, selected).assign(difference=apart))
    return {"steps": [look.step for look in looks], "largest_difference_from_stored_weights": apart}


def _prepared(
    snapshot: str,
    task: str,
    needs: Mapping[str, str],
    stage: int,
    seed: int,
    model: Mapping[str, Any],
    training: Mapping[str, Any],
    settings: Mapping[str, Any],
    prompts: Mapping[str, Any],
    batch_tokens: int,
    earlier: Sequence[str] = (),
    past: Sequence[str] = (),
    task_means: Sequence[str] = (),
    **guiding: str,
):
    """(the stage ready to be trained, its files). ``guiding``: those that some methods need."""
    means = listed(task_means)
    files = StageFiles(snapshot, task, listed(earlier), listed(past), task_means=means, **guiding)
    how = model, training, settings, prompts, batch_tokens
    return prepare_stage(files, needs, stage, seed, *how)[0], files


def _questions(
    tokenizer, tables: Iterable[tuple[str, str, str]], template: Template, analyses: Mapping, asking: Mapping
) -> dict[str, Asked]:
    """``tables``: of each set the name, the task and the in-context prompts."""
    numbers = asking["shots"], analyses["effect_prompts"], analyses["examples"], asking["seed"]
    return {
        name: asked(tokenizer, read_parquet(task), name, read_parquet(shown), template, *numbers)
        for name, task, shown in tables
    }

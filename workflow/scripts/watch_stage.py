"""Train a stage once more and write what happens to its heads on the way."""

from collections.abc import Mapping, Sequence
from typing import Any

from anamnesis.core.artifacts import read_parquet, write_parquet


def main(
    snapshot: str,
    task: str,
    adapter: str,
    ranking: str,
    set_tables: Sequence[str] | str,
    set_prompts: Sequence[str] | str,
    sets: Sequence[str],
    method: str,
    needs: Mapping[str, str],
    stage: int,
    seed: int,
    model: Mapping[str, Any],
    training: Mapping[str, Any],
    settings: Mapping[str, Any],
    prompts: Mapping[str, Any],
    analyses: Mapping[str, Any],
    asking: Mapping[str, Any],
    points: int,
    batch_tokens: int,
    table: str,
    earlier: Sequence[str] = (),
    past: Sequence[str] = (),
    task_means: Sequence[str] = (),
    guidance: Mapping | None = None,
    **guiding: str,
) -> dict:
    """Write ``table`` (parquet, ``dynamics.within_tables.within_table``). ``adapter``: what the stage ended
    with before. ``ranking``: of all heads before training; ``set_tables``, ``set_prompts``: of ``sets``, in
    that order; ``asking``: ``target``, ``rank_by``, ``shots`` and ``seed`` of the questions; ``guiding``: the
    files of ``training.stage_files.StageFiles`` that some methods need.
    """
    from anamnesis.analyses.within_stage.measure import asked, difference, watched
    from anamnesis.analyses.within_stage.tables import within_table
    from anamnesis.data.chat import template_for
    from anamnesis.training.build import build
    from anamnesis.training.guidance import guided_additions
    from anamnesis.training.prepare import prepare_stage
    from anamnesis.training.stage_files import StageFiles
    from anamnesis.vectors.instruction import selected_heads

    earlier, past, means, set_tables, set_prompts = (
        [x] if isinstance(x, str) else list(x) for x in (earlier, past, task_means, set_tables, set_prompts)
    )
    files = StageFiles(snapshot, task, earlier, past, task_means=means, **guiding)
    prepared, _ = prepare_stage(files, needs, stage, seed, model, training, settings, prompts, batch_tokens)
    additions = None
    if guidance:
        additions = guided_additions(prepared, guidance, files.heads, files.mean, files.prompt_table, means)
    chosen, objective = build(method, prepared, guidance, additions)
    numbers = asking["shots"], analyses["effect_prompts"], analyses["examples"], asking["seed"]
    tokenizer = prepared.tokenizer
    template = template_for(prompts, tokenizer)
    questions = {
        name: asked(tokenizer, read_parquet(t), name, read_parquet(p), template, *numbers)
        for name, t, p in zip(sets, set_tables, set_prompts, strict=True)
    }
    how = asking["target"], asking["rank_by"], batch_tokens
    looks = watched(chosen, objective, questions, points, *how)
    apart = difference(prepared.engine.model, adapter)
    if prepared.world.rank == 0:
        selected = selected_heads(read_parquet(ranking, ["layer", "head", "selected"]))
        write_parquet(table, within_table(looks, selected).assign(difference=apart))
    return {"steps": [look.step for look in looks], "largest_difference_from_stored_weights": apart}


if __name__ == "__main__":
    from anamnesis.core.job import run_job

    run_job(snakemake, main)

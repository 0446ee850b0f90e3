"""Train one stage of a method on one task, after the stages before it."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from anamnesis.core.artifacts import atomic_directory, write_parquet, write_sums, write_tensors


def main(
    snapshot: str,
    task: str,
    method: str,
    needs: Mapping[str, str],
    stage: int,
    seed: int,
    model: Mapping[str, Any],
    training: Mapping[str, Any],
    settings: Mapping[str, Any],
    prompts: Mapping[str, Any],
    batch_tokens: int,
    checkpoint_steps: int,
    adapter: str,
    steps: str,
    earlier: Sequence[str] = (),
    past: Sequence[str] = (),
    task_means: Sequence[str] = (),
    answered: Sequence[str] = (),
    guidance: Mapping | None = None,
    code: str | None = None,
    **guiding: str,
) -> dict:
    """Write the folder ``adapter`` (plain PEFT) and ``steps`` (parquet: the loss and its parts at every
    forward pass). ``needs``: ``adapter`` and ``tuner`` of ``training.slices.Needs``. ``code``: digest of the
    code, which a checkpoint must come from to be continued.
    ``answered``: mean activations of tasks that the model before training must have answered at all;
    ``guiding``: the files of ``training.stage_files.StageFiles`` that some methods need. In several processes
    (``training.processes``) all compute and the first one writes.
    """
    from anamnesis.training.build import build
    from anamnesis.training.guidance import guided_additions, norm
    from anamnesis.training.loop import train_stage
    from anamnesis.training.prepare import prepare_stage
    from anamnesis.training.stage_files import StageFiles
    from anamnesis.vectors.activations import check_answered

    check_answered([answered] if isinstance(answered, str) else answered)
    earlier, past, means = ([x] if isinstance(x, str) else list(x) for x in (earlier, past, task_means))
    files = StageFiles(snapshot, task, earlier, past, task_means=means, **guiding)
    prepared, cut = prepare_stage(files, needs, stage, seed, model, training, settings, prompts, batch_tokens)
    additions = added = None
    if guidance:
        additions = guided_additions(prepared, guidance, files.heads, files.mean, files.prompt_table, means)
        added = norm(prepared.engine.geometry, additions)
    chosen, objective = build(method, prepared, guidance, additions)
    prepared = chosen.stage
    sections = [model, training, settings, guidance, prompts]
    identity = files.identity([code, method, needs, stage, seed, *sections])
    checkpoints = Path(adapter).parent / ".checkpoints" / identity
    resumable = {**training, "checkpoint_steps": checkpoint_steps}
    log = train_stage(prepared.engine, chosen.batches(), objective, resumable, prepared.seed, checkpoints)
    order = [adapter] if needs["adapter"] == "continued" else [*earlier, adapter]
    state = chosen.finish()
    if prepared.world.rank == 0:
        save(chosen, state, adapter, model["name"], order[:-1])
        write_parquet(steps, log)
        shutil.rmtree(checkpoints.parent, ignore_errors=True)
    return {
        "method": method,
        "stage": stage,
        "seed": seed,
        "stage_seed": prepared.seed,
        "load_order": order,
        "examples": len(prepared.examples),
        "prompts_cut": cut,
        "added_norm": added,
        "steps": int(log.step.nunique()),
        "final_loss": float(log.loss.iloc[-1]),
    }


def save(method, state: Mapping, adapter: str, base: str, earlier: Sequence[str]) -> None:
    """The adapter, what the next stage needs to know, and what else belongs to the method."""
    from anamnesis.models.adapters import save_adapter

    with atomic_directory(adapter) as folder:
        save_adapter(method.stage.engine.model, folder, base, earlier)
        if state:
            write_tensors(folder / "state.safetensors", state)
        method.save(folder)
        write_sums(folder)


if __name__ == "__main__":
    from anamnesis.core.job import run_job

    run_job(snakemake, main)

"""Train one stage of a method on one task, after the stages before it."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from anamnesis.core.artifacts import atomic_directory, write_parquet, write_sums, write_tensors

CHECKPOINTS = ".checkpoints"


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
    trackers: Mapping | None = None,
    **guiding: str,
) -> dict:
    """Write the folder ``adapter`` (plain PEFT) and ``steps`` (parquet: the loss and its parts at every
    forward pass). ``needs``: of ``slices.Needs``. ``code``: digest of the code, which a checkpoint must come
    from to be continued. ``answered``: mean activations of tasks that must have been answered at all.
    """
    from anamnesis.core.trackers import REPORTED, reporting
    from anamnesis.training.stage_files import StageFiles
    from anamnesis.vectors.activations import check_answered

    check_answered(answered)
    files = StageFiles(snapshot, task, earlier, past, task_means=task_means, **guiding)
    made_of = [code, method, needs, stage, seed, model, training, settings, guidance, prompts]
    checkpoints = Path(adapter).parent / CHECKPOINTS / files.identity(made_of)
    how = {"needs": needs, "number": stage, "seed": seed, "batch_tokens": batch_tokens}
    how |= {"model": model, "training": training, "settings": settings, "prompts": prompts}
    kept = checkpoints / REPORTED
    with reporting(trackers, Path(adapter).parent, "training", kept) as reporter:
        built, log = _train(method, files, guidance, how, checkpoint_steps, checkpoints, reporter)
    order = [adapter] if needs["adapter"] == "continued" else [*earlier, adapter]
    save(built, log, adapter, steps, model, order[:-1])
    return {"method": method, "snapshot": snapshot, "load_order": order, **_facts(built, log)}


def _train(
    method: str, files, guidance: Mapping | None, how: Mapping, checkpoint_steps: int, folder: Path, reporter
):
    """(the stage, trained; its log)."""
    from anamnesis.training.build import build_from_files
    from anamnesis.training.loop import train_stage

    built = build_from_files(method, files, guidance, **how)
    stage, settings = built.method.stage, {**how["training"], "checkpoint_steps": checkpoint_steps}
    batches = built.method.batches()
    return built, train_stage(stage.engine, batches, built.objective, settings, stage.seed, folder, reporter)


def _facts(built, log) -> dict:
    """What the record says of a trained stage."""
    stage = built.method.stage
    return {
        "stage": stage.number,
        "task": stage.task,
        "seed": stage.chain_seed,
        "stage_seed": stage.seed,
        "examples": len(stage.examples),
        "prompts_cut": built.prompts_cut,
        "added_norm": built.added_norm,
        "steps": int(log.step.nunique()),
        "final_loss": float(log.loss.iloc[-1]),
    }


def save(built, log, adapter: str, steps: str, model: Mapping, earlier: Sequence[str]) -> None:
    """The log, and the adapter with what the next stage needs to know and what else belongs to the method.
    Of several processes the first one writes; checkpoints go once all is there.
    """
    from anamnesis.models.adapters import save_adapter
    from anamnesis.models.cards import on_hub

    method, state = built.method, built.method.finish()
    if method.stage.world.rank:
        return
    with atomic_directory(adapter) as folder:
        save_adapter(
            method.stage.engine.model, folder, model["name"], earlier, adapter, on_hub(model["source"])
        )
        if state:
            write_tensors(folder / "state.safetensors", state)
        method.save(folder)
        write_sums(folder)
    write_parquet(steps, log)
    shutil.rmtree(Path(adapter).parent / CHECKPOINTS, ignore_errors=True)


if __name__ == "__main__":
    from anamnesis.core.job import run_job

    run_job(snakemake, main)

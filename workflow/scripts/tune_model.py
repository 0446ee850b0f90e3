"""Tune the prepared model on training examples of some tasks: the start of the experiment."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from anamnesis.core.artifacts import read_parquet, write_parquet


def main(
    snapshot: str,
    tasks: Sequence[str],
    names: Sequence[str],
    tuning: Mapping[str, Any],
    model: Mapping[str, Any],
    prompts: Mapping[str, Any],
    answer_lengths: Mapping[str, int],
    metrics: Mapping[str, str | None],
    scorer: str,
    max_input_tokens: int,
    seed: int,
    batch_tokens: int,
    checkpoint_steps: int,
    tuned: str,
    adapter: str,
    steps: str,
    code: str | None = None,
    trackers: Mapping | None = None,
) -> dict:
    """Write the snapshot ``tuned``, the folder ``adapter`` (plain PEFT) and ``steps`` (parquet: the loss at
    every step). ``tasks``: files of ``names``, in that order; ``snapshot``: the prepared model.
    """
    from anamnesis.core.trackers import REPORTED, reporting
    from anamnesis.training.stage_files import StageFiles
    from anamnesis.training.tuning import TuningTask

    sources = [
        TuningTask(name, read_parquet(file), answer_lengths[name], metrics[name] or "accuracy")
        for name, file in zip(names, tasks, strict=True)
    ]
    how = {"batch_tokens": batch_tokens, "seed": seed, "max_input_tokens": max_input_tokens, "scorer": scorer}
    settings = [code, names, tuning, model, prompts, max_input_tokens, seed]
    identity = StageFiles(snapshot, tasks[0], past=tasks[1:]).identity(settings)
    checkpoints = Path(adapter).parent / ".checkpoints" / identity
    folders = checkpoints, Path(adapter), Path(tuned)
    kept = checkpoints / REPORTED
    with reporting(trackers, Path(tuned).parent, "training", kept) as reporter:
        facts, log = _tune(
            snapshot, sources, tuning, model, prompts, how, checkpoint_steps, folders, reporter
        )
    write_parquet(steps, log)
    shutil.rmtree(checkpoints.parent, ignore_errors=True)
    asked = "validation examples, zero-shot with the instruction"
    return {"tasks": list(names), "asked": asked, **facts}


def _tune(
    snapshot: str,
    sources: Sequence,
    tuning: Mapping[str, Any],
    model: Mapping[str, Any],
    prompts: Mapping[str, Any],
    how: Mapping[str, Any],
    checkpoint_steps: int,
    folders: tuple[Path, Path, Path],
    reporter,
) -> tuple[dict, Any]:
    """Facts, and the loss at every step. ``folders``: of checkpoints, the adapter and the tuned model."""
    from anamnesis.core.progress import progress
    from anamnesis.data.chat import template_for
    from anamnesis.models.cards import on_hub
    from anamnesis.models.loading import load_model
    from anamnesis.training.tuning import (
        save_tuned,
        tune,
        tuning_batches,
        tuning_examples,
        zero_shot_accuracy,
    )

    checkpoints, adapter, tuned = folders
    language_model, tokenizer = load_model(snapshot, model["dtype"], model["device"])
    template = template_for(prompts, tokenizer)
    examples = tuning_examples(sources, tokenizer, template, tuning["examples"], how["max_input_tokens"])
    batches = tuning_batches(examples, tuning["epochs"], tuning["batch_size"], how["seed"])
    count = sum(int((source.frame["split"] == "validation").sum()) for source in sources)
    with progress(2 * count, "tuning: accuracy before and after") as done:
        before = zero_shot_accuracy(language_model, tokenizer, template, sources, how, done)
        trained, log = tune(
            language_model, batches, tuning, checkpoint_steps, how["seed"], checkpoints, reporter
        )
        merged = save_tuned(trained, tokenizer, model["name"], adapter, tuned, on_hub(model["source"]))
        after = zero_shot_accuracy(merged, tokenizer, template, sources, how, done)
    facts = {
        "examples": {name: len(items) for name, items in examples.items()},
        "steps": len(batches),
        "first_loss": float(log["loss"].iloc[0]),
        "final_loss": float(log["loss"].tail(10).mean()),
    }
    return {**facts, "accuracy_before": before, "accuracy_after": after}, log


if __name__ == "__main__":
    from anamnesis.core.job import run_job

    run_job(snakemake, main)

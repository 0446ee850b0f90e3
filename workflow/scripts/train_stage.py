"""Train the adapter of one stage on one task, on top of the model with all earlier adapters merged."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from anamnesis.artifacts import atomic_directory, digest_file, digest_json, read_parquet, write_parquet


def main(
    snapshot: str,
    task: str,
    method: str,
    seed: int,
    model: Mapping[str, Any],
    training: Mapping[str, Any],
    prompts: Mapping[str, str],
    batch_tokens: int,
    checkpoint_steps: int,
    adapter: str,
    steps: str,
    earlier: Sequence[str] = (),
    guidance: Mapping | None = None,
    heads: str | None = None,
    mean: str | None = None,
    prompt_table: str | None = None,
    code: str | None = None,
) -> dict:
    """Write the folder ``adapter`` (plain PEFT) and ``steps`` (parquet: the loss and its parts at every
    forward pass). ``code``: digest of the code, which a checkpoint must come from to be continued.
    """
    from anamnesis.data.prompts import Template, generator
    from anamnesis.models.loading import load_model, merge_adapters
    from anamnesis.training.adapters import add_adapter, save_adapter
    from anamnesis.training.examples import build_examples
    from anamnesis.training.guidance import build_objective
    from anamnesis.training.loop import train_stage

    earlier = [earlier] if isinstance(earlier, str) else list(earlier)
    language_model, tokenizer = load_model(snapshot, model["dtype"], model["device"])
    language_model = merge_adapters(language_model, [Path(a) for a in earlier])
    objective = build_objective(guidance, language_model, tokenizer, heads, mean, prompt_table, batch_tokens)
    examples, cut = build_examples(
        read_parquet(task), tokenizer, Template(**prompts), training["max_input_tokens"]
    )
    settings = [code, method, seed, dict(model), dict(training), guidance, dict(prompts)]
    identity = _identity(settings, snapshot, [task, heads, mean, prompt_table], earlier)
    checkpoints = Path(adapter).parent / ".checkpoints" / identity
    # a start and an order of its own for every stage
    stage_seed = int(generator(seed, "stage", len(earlier)).integers(2**31))
    tuned = add_adapter(language_model, training["lora"], stage_seed)
    resumable = {**training, "checkpoint_steps": checkpoint_steps}
    log = train_stage(tuned, examples, objective, resumable, stage_seed, checkpoints)
    with atomic_directory(adapter) as folder:
        save_adapter(tuned, folder, model["name"], earlier)
    write_parquet(steps, log)
    shutil.rmtree(checkpoints.parent, ignore_errors=True)
    return {
        "method": method,
        "seed": seed,
        "stage_seed": stage_seed,
        "load_order": [*earlier, adapter],
        "examples": len(examples),
        "prompts_cut": cut,
        "steps": int(log.step.nunique()),
        "final_loss": float(log.loss.iloc[-1]),
    }


def _identity(settings: list, snapshot: str, files: Sequence[str | None], earlier: Sequence[str]) -> str:
    """Digest of all that determines a stage: only a checkpoint of the very same one may be continued."""
    weights = [digest_file(Path(a) / "adapter_model.safetensors") for a in earlier]
    made = Path(snapshot).stat().st_mtime_ns  # a snapshot is replaced as a whole; its weights may be huge
    return digest_json([settings, made, [digest_file(f) for f in files if f], weights])[:16]


if __name__ == "__main__":
    from anamnesis.job import run_job

    run_job(snakemake, main)

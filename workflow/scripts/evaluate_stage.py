"""Evaluate one checkpoint on training tasks and held-out sets, zero-shot and few-shot."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from anamnesis.core.artifacts import read_parquet, write_parquet


def main(
    snapshot: str,
    tasks: Sequence[str],
    roles: Mapping[str, str],
    model: Mapping[str, Any],
    evaluation: Mapping[str, Any],
    answer_lengths: Mapping[str, int],
    metrics: Mapping[str, str | None],
    max_input_tokens: int,
    prompts: Mapping[str, Any],
    seed: int,
    batch_tokens: int,
    output: str,
    method: str | None = None,
    adapters: Sequence[str] = (),
) -> dict:
    """Write ``output`` (parquet, one row per example). ``tasks``: files named after the keys of ``roles``, in
    that order. ``method``: what trained ``adapters``, as its models may run in an engine of their own.
    """
    from anamnesis.core.progress import progress
    from anamnesis.data.chat import template_for
    from anamnesis.engine.prefix_engine import PrefixEngine
    from anamnesis.evaluation.records import (
        EvaluationSet,
        Evaluator,
        empty_shares,
        shots_of,
        validation_as_test,
    )
    from anamnesis.models.loading import load_model, merge_adapters
    from anamnesis.training.slices import load_part

    adapters = [adapters] if isinstance(adapters, str) else list(adapters)
    language_model, tokenizer = load_model(snapshot, **model)
    language_model = merge_adapters(language_model, [Path(a) for a in adapters])
    own = load_part(method, "engine") if method else None
    evaluator = Evaluator(
        own.engine_of(language_model, adapters, snapshot, tokenizer) if own else PrefixEngine(language_model),
        tokenizer,
        template_for(prompts, tokenizer),
        evaluation["shots"],
        evaluation["forms"],
        batch_tokens,
        seed,
        evaluation["scorer"],
        max_input_tokens,
        evaluation["demonstration_draws"],
        evaluation["few_shot"],
    )
    frames = {name: read_parquet(path) for name, path in zip(roles, tasks, strict=True)}
    if evaluation["split"] == "validation":
        frames = {name: validation_as_test(frame) for name, frame in frames.items()}
    total = sum(
        int((f.split == "test").sum())
        * len(shots_of(roles[name], evaluation["shots"], evaluation["few_shot"]))
        for name, f in frames.items()
        for form in evaluation["forms"]
        if form == "instruction" or f.knowledge_prompt.notna().any()
    )
    sets = [
        EvaluationSet(name, roles[name], frame, answer_lengths[name], metrics[name] or "accuracy")
        for name, frame in frames.items()
    ]
    with progress(total, "evaluation") as done:
        table = evaluator.evaluate(sets, done)
    write_parquet(output, table)
    return {
        "adapters": adapters,
        "rows": len(table),
        "scorer": evaluation["scorer"],
        "split": evaluation["split"],
        "metrics": table.groupby("set", sort=False)["metric"].first().to_dict(),
        "inputs_cut": int(table.drop_duplicates(["set", "example_id"])["cut"].sum()),
        "empty_answers": empty_shares(table),
    }


if __name__ == "__main__":
    from anamnesis.core.job import run_job

    run_job(snakemake, main)

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
    trackers: Mapping | None = None,
) -> dict:
    """Write ``output`` (parquet, one row per example). ``tasks``: files named after the keys of ``roles``, in
    that order. ``method``: what trained ``adapters``, as its models may run in an engine of their own.
    """
    from anamnesis.core.progress import progress
    from anamnesis.core.trackers import reporting
    from anamnesis.evaluation.records import (
        TYPES,
        EvaluationSet,
        facts_of,
        mean_scores_by_name,
        validation_as_test,
    )

    frames = {name: read_parquet(path) for name, path in zip(roles, tasks, strict=True)}
    if evaluation["split"] == "validation":
        frames = {name: validation_as_test(frame) for name, frame in frames.items()}
    sets = [
        EvaluationSet(name, roles[name], frame, answer_lengths[name], metrics[name] or "accuracy")
        for name, frame in frames.items()
    ]
    limits = {"batch_tokens": batch_tokens, "seed": seed, "max_input_tokens": max_input_tokens}
    evaluator = _evaluator(snapshot, adapters, method, model, evaluation, prompts, limits)
    with progress(evaluator.count(sets), "evaluation") as done:
        table = evaluator.evaluate(sets, done)
    write_parquet(output, table, TYPES)
    stage = Path(output).parent
    with reporting(trackers, stage, "evaluation") as reporter:
        if reporter:
            reporter(int(stage.name.removeprefix("stage")), mean_scores_by_name(table))
    facts = {"adapters": list(adapters), "split": evaluation["split"], "scorer": evaluation["scorer"]}
    return facts | facts_of(table)


def _evaluator(
    snapshot: str,
    adapters: Sequence[str],
    method: str | None,
    model: Mapping,
    evaluation: Mapping,
    prompts: Mapping,
    limits: Mapping,
):
    """The evaluator of a checkpoint. ``limits``: those of its fields that are no part of ``evaluation``."""
    from anamnesis.data.chat import template_for
    from anamnesis.evaluation.records import Evaluator
    from anamnesis.training.trained import load_trained

    engine, tokenizer = load_trained(snapshot, adapters, method, model)
    return Evaluator(
        engine,
        tokenizer,
        template_for(prompts, tokenizer),
        **limits,
        draws=evaluation["demonstration_draws"],
        **{key: evaluation[key] for key in ("shots", "forms", "scorer", "few_shot")},
    )


if __name__ == "__main__":
    from anamnesis.core.job import run_job

    run_job(snakemake, main)

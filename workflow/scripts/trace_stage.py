"""Trace one checkpoint on some sets: hidden states, vectors, conditions, causal effects (figures 4, 5, 7)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from anamnesis.core.artifacts import read_parquet, read_tensors, write_parquet, write_tensors


def main(
    snapshot: str,
    heads: str,
    tasks: Sequence[str] | str,
    prompt_tables: Sequence[str] | str,
    sets: Sequence[str],
    model: Mapping[str, Any],
    analyses: Mapping[str, Any],
    every_layer: bool,
    target: str,
    shots: int,
    prompts: Mapping[str, Any],
    seed: int,
    batch_tokens: int,
    alignment: str,
    drift: str,
    conditions: str,
    effects: str,
    worded: Sequence[str] | str,
    wording: Mapping[str, Any],
    wordings: str,
    adapters: Sequence[str] | str = (),
    initial: str | None = None,
    kept: str | None = None,
    sufficiency: str | None = None,
) -> dict:
    """Write the tables. ``tasks``, ``prompt_tables``: of ``sets``; ``worded``: tasks of ``wording["sets"]``.
    ``every_layer``: whether vectors are added after every layer, or after the one chosen before training.
    ``kept``, ``sufficiency``: of the model before training; later stages read the former as ``initial``.
    """
    from anamnesis.analyses.checkpoints.measure import Plan, kept_tensors, trace_sets
    from anamnesis.analyses.open_questions.sufficiency import sufficiency_of_sets
    from anamnesis.analyses.open_questions.wordings import wording_scores
    from anamnesis.data.chat import template_for
    from anamnesis.engine.prefix_engine import PrefixEngine
    from anamnesis.models.loading import load_model, merge_adapters
    from anamnesis.vectors.instruction import selected_heads

    tasks, prompt_tables, adapters, worded = (
        [x] if isinstance(x, str) else list(x) for x in (tasks, prompt_tables, adapters, worded)
    )
    language_model, tokenizer = load_model(snapshot, **model)
    engine = PrefixEngine(merge_adapters(language_model, [Path(a) for a in adapters]))
    ranking = read_parquet(heads, ["rank", "layer", "head", "selected"])
    chosen = selected_heads(ranking)
    layers = analyses["layers"] or range(engine.geometry.n_layers)
    counts = analyses["random_sets"], analyses["effect_prompts"]
    plan = Plan(chosen, list(layers), every_layer, *counts, target, seed, batch_tokens)
    pairs = zip(map(read_parquet, tasks), map(read_parquet, prompt_tables), strict=True)
    frames, before = dict(zip(sets, pairs, strict=True)), read_tensors(initial) if initial else {}
    how = template_for(prompts, tokenizer), shots, analyses["examples"]
    traces = trace_sets(engine, tokenizer, frames, plan, *how, before)
    outputs = {"alignment": alignment, "drift": drift, "conditions": conditions, "effects": effects}
    for part, path in outputs.items():
        found = [getattr(trace, part).assign(set=name) for name, trace in traces.items()]
        write_parquet(path, pd.concat(found, ignore_index=True))
    write_parquet(wordings, wording_scores(engine, tokenizer, map(read_parquet, worded), wording, plan, *how))
    if kept:
        write_tensors(kept, kept_tensors(traces))
        table = sufficiency_of_sets(engine, tokenizer, frames, traces, ranking, plan, *how)
        write_parquet(sufficiency, table)
    averaged = {name: f"{t.activations.count} ({t.activations.over})" for name, t in traces.items()}
    return {"adapters": adapters, "heads": [list(pair) for pair in chosen], "prompts_averaged": averaged}


if __name__ == "__main__":
    from anamnesis.core.job import run_job

    run_job(snakemake, main)

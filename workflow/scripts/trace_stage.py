"""Trace one checkpoint on some sets: hidden states, vectors, conditions, causal effects (figures 4, 5, 7)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from anamnesis.artifacts import read_parquet, read_tensors, write_parquet, write_tensors


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
    adapters: Sequence[str] | str = (),
    initial: str | None = None,
    kept: str | None = None,
) -> dict:
    """Write the four tables. ``tasks`` and ``prompt_tables``: of ``sets``, in that order. ``every_layer``:
    whether vectors are added after every layer, or only after the one chosen before training. ``kept``:
    written by the model before training, for the later stages to read as ``initial``.
    """
    from anamnesis.data.chat import template_for
    from anamnesis.dynamics.stage import Plan, kept_tensors, trace_sets
    from anamnesis.models.loading import load_model, merge_adapters
    from anamnesis.prefix.engine import PrefixEngine
    from anamnesis.vectors.instruction import selected_heads

    tasks, prompt_tables, adapters = (
        [x] if isinstance(x, str) else list(x) for x in (tasks, prompt_tables, adapters)
    )
    language_model, tokenizer = load_model(snapshot, **model)
    engine = PrefixEngine(merge_adapters(language_model, [Path(a) for a in adapters]))
    chosen = selected_heads(read_parquet(heads, ["layer", "head", "selected"]))
    layers = range(engine.geometry.n_layers) if analyses["layers"] is None else analyses["layers"]
    limits = analyses["random_sets"], analyses["effect_prompts"]
    plan = Plan(chosen, list(layers), every_layer, *limits, target, seed, batch_tokens)
    files = zip(sets, tasks, prompt_tables, strict=True)
    frames = {name: (read_parquet(task), read_parquet(table)) for name, task, table in files}
    before = read_tensors(initial) if initial else {}
    template = template_for(prompts, tokenizer)
    traces = trace_sets(engine, tokenizer, frames, plan, template, shots, analyses["examples"], before)
    outputs = {"alignment": alignment, "drift": drift, "conditions": conditions, "effects": effects}
    for part, path in outputs.items():
        found = [getattr(trace, part).assign(set=name) for name, trace in traces.items()]
        write_parquet(path, pd.concat(found, ignore_index=True))
    if kept:
        write_tensors(kept, kept_tensors(traces))
    averaged = {name: f"{t.activations.count} ({t.activations.over})" for name, t in traces.items()}
    return {"adapters": adapters, "heads": [list(pair) for pair in chosen], "prompts_averaged": averaged}


if __name__ == "__main__":
    from anamnesis.job import run_job

    run_job(snakemake, main)

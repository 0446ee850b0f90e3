"""The job of one checkpoint: all its measures, with the model loaded once (figures 4, 5 and 7)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from anamnesis.analyses.checkpoints.measure import Plan, SetTrace, kept_tensors, trace_sets
from anamnesis.analyses.checkpoints.sufficiency import sufficiency_of_sets
from anamnesis.analyses.checkpoints.wordings import wording_scores
from anamnesis.core.artifacts import read_parquet, read_tensors, write_parquet, write_tensors
from anamnesis.core.steps import listed
from anamnesis.data.chat import template_for
from anamnesis.engine.prefix_engine import PrefixEngine
from anamnesis.models.loading import load_model, merge_adapters
from anamnesis.vectors.instruction import selected_heads

PARTS = ("alignment", "drift", "conditions", "effects")


def trace(
    snapshot: str,
    heads: str,
    tasks: Sequence[str],
    prompt_tables: Sequence[str],
    worded: Sequence[str],
    sets: Sequence[str],
    model: Mapping[str, Any],
    asking: Mapping[str, Any],
    every_layer: bool,
    wording: Mapping[str, Any],
    batch_tokens: int,
    adapters: Sequence[str] = (),
    initial: str | None = None,
    **outputs: str,
) -> dict:
    """Write :data:`PARTS` and ``wordings``; of the model before training, which has no ``initial``, also
    ``sufficiency`` and ``kept``, the ``initial`` of later stages.

    ``tasks``, ``prompt_tables``: of ``sets``; ``worded``: of ``wording["sets"]``; ``every_layer``: whether
    vectors are added after every layer, or after the one chosen before training.
    """
    adapters, tables = listed(adapters), zip(listed(tasks), listed(prompt_tables), strict=True)
    language_model, tokenizer = load_model(snapshot, **model)
    engine = PrefixEngine(merge_adapters(language_model, [Path(a) for a in adapters]))
    ranking = read_parquet(heads, ["rank", "layer", "head", "selected"])
    plan = _plan(engine, ranking, asking, every_layer, batch_tokens)
    frames = {n: tuple(map(read_parquet, paths)) for n, paths in zip(sets, tables, strict=True)}
    how = template_for(asking["prompts"], tokenizer), asking["shots"], asking["examples"]
    traces = trace_sets(engine, tokenizer, frames, plan, *how, read_tensors(initial) if initial else {})
    _write(traces, outputs)
    reworded = map(read_parquet, listed(worded))
    write_parquet(outputs["wordings"], wording_scores(engine, tokenizer, reworded, wording, plan, *how))
    if not initial:
        table = sufficiency_of_sets(engine, tokenizer, frames, traces, ranking, plan, *how)
        write_parquet(outputs["sufficiency"], table)
    averaged = {name: f"{t.activations.count} ({t.activations.over})" for name, t in traces.items()}
    return {"adapters": adapters, "heads": [*map(list, plan.heads)], "prompts_averaged": averaged}


def _plan(
    engine: PrefixEngine, ranking: pd.DataFrame, asking: Mapping[str, Any], every_layer: bool, budget: int
) -> Plan:
    layers = list(asking["layers"] or range(engine.geometry.n_layers))
    counts = asking["random_sets"], asking["effect_prompts"]
    chosen = selected_heads(ranking)
    return Plan(chosen, layers, every_layer, *counts, asking["target"], asking["seed"], budget)


def _write(traces: Mapping[str, SetTrace], outputs: Mapping[str, str]) -> None:
    for part in PARTS:
        frames = [getattr(traced, part).assign(set=name) for name, traced in traces.items()]
        write_parquet(outputs[part], pd.concat(frames, ignore_index=True))
    if "kept" in outputs:
        write_tensors(outputs["kept"], kept_tensors(traces))

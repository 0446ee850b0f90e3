"""The jobs of the mechanisms of forgetting: the model before training, and that after each stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from anamnesis.analyses.mechanisms.landscape import base_landscape, followed_probe, trained_curvature
from anamnesis.analyses.mechanisms.measure import changes, kept, measure
from anamnesis.analyses.mechanisms.probes import Probe, draw_probes
from anamnesis.core.artifacts import read_parquet, read_tensors, write_parquet, write_tensors
from anamnesis.core.steps import listed
from anamnesis.data.chat import template_for
from anamnesis.engine.prefix_engine import PrefixEngine
from anamnesis.models.loading import load_model, merge_adapters, open_adapter

ONE_MODEL = ("gradients", "similarity", "losses")  # tables that need no other model to compare with
TRAINED_MODEL = ("drift", "heads", "routing", "landscape")


def probe_base(
    snapshot: str,
    tasks: Sequence[str],
    sets: Sequence[str],
    model: Mapping[str, Any],
    mechanisms: Mapping[str, Any],
    prompts: Mapping[str, Any],
    seed: int,
    batch_tokens: int,
    states: str,
    **outputs: str,
) -> dict:
    """What later models are measured against: write ``states`` (safetensors) and the tables
    :data:`ONE_MODEL`. ``tasks``: files named after ``sets``, in their order.
    """
    language_model, tokenizer = load_model(snapshot, **model)
    probes = _probes(tasks, sets, tokenizer, mechanisms, prompts, seed)
    seen, tables = measure(PrefixEngine(language_model), probes, mechanisms["matrices"], batch_tokens)
    write_tensors(states, kept(seen))
    for name, path in outputs.items():
        write_parquet(path, tables[name])
    return {"examples": sum(len(p.examples) for p in probes), "probes": len(probes)}


def probe_stage(
    snapshot: str,
    tasks: Sequence[str],
    adapters: Sequence[str],
    states: str,
    sets: Sequence[str],
    followed: str,
    model: Mapping[str, Any],
    mechanisms: Mapping[str, Any],
    prompts: Mapping[str, Any],
    seed: int,
    batch_tokens: int,
    **outputs: str,
) -> dict:
    """Write :data:`ONE_MODEL` and :data:`TRAINED_MODEL`. ``states``: of the model before training;
    ``followed``: the first task of the order, in whose adapter the curvature of its loss is measured.
    """
    adapters = listed(adapters)
    language_model, tokenizer = load_model(snapshot, **model)
    probes = _probes(tasks, sets, tokenizer, mechanisms, prompts, seed)
    engine, landscape = _follow(language_model, adapters, probes, followed, mechanisms, seed)
    seen, tables = measure(engine, probes, mechanisms["matrices"], batch_tokens)
    tables |= changes(read_tensors(states), seen, probes, mechanisms["subspace"])
    tables["landscape"] = landscape
    for name, path in outputs.items():
        write_parquet(path, tables[name])
    return {"adapters": adapters, "examples": sum(len(p.examples) for p in probes)}


def _probes(tasks, sets: Sequence[str], tokenizer, mechanisms: Mapping, prompts, seed: int) -> list[Probe]:
    frames = {name: read_parquet(path) for name, path in zip(sets, listed(tasks), strict=True)}
    counts = mechanisms["probes"], mechanisms["probe_examples"]
    return draw_probes(frames, tokenizer, template_for(prompts, tokenizer), *counts, seed)


def _follow(
    language_model, adapters: Sequence[str], probes: Sequence[Probe], followed: str, mechanisms, seed: int
) -> tuple[PrefixEngine, pd.DataFrame]:
    """(engine of the model with all adapters merged, table of the landscape of the loss of ``followed``)."""
    first, *later = map(Path, adapters)
    probe = followed_probe(probes, followed, mechanisms["curvature"]["examples"])
    # adapters add up in any order, so the first one can stay open on top of the others
    tuned = open_adapter(merge_adapters(language_model, later), first, trainable=True)
    trained = trained_curvature(PrefixEngine(tuned), probe, mechanisms["curvature"], seed)
    engine = PrefixEngine(tuned.merge_and_unload())
    base = base_landscape(engine, probe, mechanisms["matrices"], mechanisms["curvature"], seed)
    return engine, pd.concat([trained, base], ignore_index=True)

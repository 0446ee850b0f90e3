"""The mechanisms of forgetting in one model: gradients, drift, heads, routing, and the first task's loss."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from anamnesis.core.artifacts import read_parquet, read_tensors, write_parquet

TABLES = ("gradients", "similarity", "losses", "drift", "heads", "routing", "landscape")


def main(
    snapshot: str,
    tasks: Sequence[str],
    adapters: Sequence[str] | str,
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
    """Write ``outputs`` (parquet, one for each of ``TABLES``). ``states``: of the untrained model;
    ``followed``: the first task of the order, in whose adapter the curvature of its loss is measured.
    """
    from anamnesis.analyses.mechanisms.measure import changes, measure
    from anamnesis.analyses.mechanisms.probes import draw_probes
    from anamnesis.data.chat import template_for
    from anamnesis.models.loading import load_model

    adapters = [adapters] if isinstance(adapters, str) else list(adapters)
    language_model, tokenizer = load_model(snapshot, **model)
    frames = {name: read_parquet(path) for name, path in zip(sets, tasks, strict=True)}
    counts = mechanisms["probes"], mechanisms["probe_examples"]
    probes = draw_probes(frames, tokenizer, template_for(prompts, tokenizer), *counts, seed)
    engine, landscape = follow(language_model, adapters, probes, followed, mechanisms, seed)
    seen, tables = measure(engine, probes, mechanisms["matrices"], batch_tokens)
    tables |= changes(read_tensors(states), seen, probes, mechanisms["subspace"])
    for name, frame in {**tables, "landscape": landscape}.items():
        write_parquet(outputs[name], frame)
    return {"adapters": adapters, "examples": sum(len(p.examples) for p in probes)}


def follow(language_model, adapters: Sequence[str], probes, followed: str, mechanisms: Mapping, seed: int):
    """(engine of the model with all adapters merged, table of the landscape of the loss of ``followed``)."""
    import pandas as pd

    from anamnesis.analyses.mechanisms.landscape import base_landscape, followed_probe, trained_curvature
    from anamnesis.engine.prefix_engine import PrefixEngine
    from anamnesis.models.loading import merge_adapters, open_adapter

    first, *later = map(Path, adapters)
    probe = followed_probe(probes, followed, mechanisms["curvature"]["examples"])
    # adapters add up in any order, so the first one can stay open on top of the others
    tuned = open_adapter(merge_adapters(language_model, later), first, trainable=True)
    trained = trained_curvature(PrefixEngine(tuned), probe, mechanisms["curvature"], seed)
    engine = PrefixEngine(tuned.merge_and_unload())
    base = base_landscape(engine, probe, mechanisms["matrices"], mechanisms["curvature"], seed)
    return engine, pd.concat([trained, base], ignore_index=True)


if __name__ == "__main__":
    from anamnesis.core.job import run_job

    run_job(snakemake, main)

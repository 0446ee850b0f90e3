"""What the mechanisms of forgetting are measured against: the untrained model on the probes of all sets."""

from collections.abc import Mapping, Sequence
from typing import Any

from anamnesis.core.artifacts import read_parquet, write_parquet, write_tensors


def main(
    snapshot: str,
    tasks: Sequence[str],
    sets: Sequence[str],
    model: Mapping[str, Any],
    mechanisms: Mapping[str, Any],
    prompts: Mapping[str, Any],
    seed: int,
    batch_tokens: int,
    states: str,
    gradients: str,
    similarity: str,
    losses: str,
) -> dict:
    """Write ``states`` (safetensors) for later stages and three tables. ``tasks``: files named after
    ``sets``, in their order.
    """
    from anamnesis.analyses.mechanisms.measure import kept, measure
    from anamnesis.analyses.mechanisms.probes import draw_probes
    from anamnesis.data.chat import template_for
    from anamnesis.engine.prefix_engine import PrefixEngine
    from anamnesis.models.loading import load_model

    language_model, tokenizer = load_model(snapshot, **model)
    frames = {name: read_parquet(path) for name, path in zip(sets, tasks, strict=True)}
    counts = mechanisms["probes"], mechanisms["probe_examples"]
    probes = draw_probes(frames, tokenizer, template_for(prompts, tokenizer), *counts, seed)
    engine = PrefixEngine(language_model)
    seen, tables = measure(engine, probes, mechanisms["matrices"], batch_tokens)
    write_tensors(states, kept(seen))
    for name, path in {"gradients": gradients, "similarity": similarity, "losses": losses}.items():
        write_parquet(path, tables[name])
    return {"examples": sum(len(p.examples) for p in probes), "probes": len(probes)}


if __name__ == "__main__":
    from anamnesis.core.job import run_job

    run_job(snakemake, main)

"""Add the instruction vectors of the model before training to a model after its last stage (figure 7)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from anamnesis.core.artifacts import read_parquet, read_tensors, write_parquet

COLUMNS = ["method", "order", "seed", "set", "condition", "layer", "accuracy", "n", "right"]


def main(
    snapshot: str,
    tasks: Sequence[str],
    vectors: Sequence[str],
    interventions: Sequence[str],
    adapters: Sequence[str],
    sets: Sequence[str],
    chain: Mapping[str, Any],
    model: Mapping[str, Any],
    settings: Mapping[str, Any],
    prompts: Mapping[str, Any],
    max_input_tokens: int,
    seed: int,
    batch_tokens: int,
    output: str,
) -> dict:
    """Write ``output`` (parquet: ``COLUMNS``).

    ``tasks``, ``vectors``, ``interventions``: files of ``sets``; ``adapters``: those of ``chain``.
    ``settings``, ``seed``: of the interventions before training, so that the questions are the same.
    """
    import pandas as pd

    from anamnesis.core.progress import progress
    from anamnesis.engine.prefix_engine import PrefixEngine
    from anamnesis.models.loading import load_frozen, merge_adapters
    from anamnesis.vectors.after_training import accuracy_with_vector

    files = zip(tasks, vectors, interventions, strict=True)
    language_model, tokenizer = load_frozen(snapshot, **model)
    engine = PrefixEngine(merge_adapters(language_model, [Path(adapter) for adapter in adapters]))
    limits = (prompts, settings, max_input_tokens, seed)
    asked = {name: _asked(tokenizer, name, *three, *limits) for name, three in zip(sets, files, strict=True)}
    parts = []
    with progress(len(sets), "recover") as done:
        for name, one in asked.items():
            found = accuracy_with_vector(engine, one["questions"], one["theta"], one["layer"], batch_tokens)
            parts.append(found.assign(set=name, **chain))
            done(1)
    write_parquet(output, pd.concat(parts, ignore_index=True)[COLUMNS])
    layers = {name: one["layer"] for name, one in asked.items()}
    return {"layers": layers, "inputs_cut": sum(one["inputs_cut"] for one in asked.values())}


def _asked(tokenizer, name, task, vector, interventions, prompts, settings, max_input_tokens, seed) -> dict:
    """What a set is asked (``questions``, ``theta``, ``layer``), and how many of its inputs were cut."""
    from anamnesis.data.chat import template_for
    from anamnesis.data.shortening import shorten_inputs
    from anamnesis.stats.layers import best_layer
    from anamnesis.vectors.interventions import split_questions

    template = template_for(prompts, tokenizer)
    rows, cut = shorten_inputs(read_parquet(task), tokenizer, template, max_input_tokens)
    return {
        "questions": split_questions(tokenizer, rows, name, template, settings, seed, "test"),
        "theta": read_tensors(vector)["theta"],
        "layer": best_layer(read_parquet(interventions)),
        "inputs_cut": int(cut.sum()),
    }


if __name__ == "__main__":
    from anamnesis.core.job import run_job

    run_job(snakemake, main)

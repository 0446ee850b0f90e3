"""Write a task's in-context prompts and the mean activation of every head over those answered correctly (eq.
1).
"""

from collections.abc import Mapping
from typing import Any

from anamnesis.core.artifacts import read_parquet, write_parquet


def main(
    snapshot: str,
    task: str,
    name: str,
    model: Mapping[str, Any],
    vectors: Mapping[str, Any],
    prompts: Mapping[str, Any],
    max_input_tokens: int,
    seed: int,
    batch_tokens: int,
    prompt_table: str,
    mean: str,
) -> dict:
    """Write ``prompt_table`` (parquet) and ``mean`` (safetensors: mean, count, stream, scale; see
    ``vectors.activations.MeanActivations``)."""
    from anamnesis.core.progress import progress
    from anamnesis.data.chat import template_for
    from anamnesis.data.shortening import shorten_inputs
    from anamnesis.engine.prefix_engine import PrefixEngine
    from anamnesis.models.loading import load_frozen
    from anamnesis.vectors.activations import mean_head_activations, write_activations
    from anamnesis.vectors.icl import CLEAN, SHUFFLED, TYPES, PromptPlan, build_prompts, encode_questions

    keys = ("shots", "activation_prompts", "effect_prompts", "include_instruction")
    plan = PromptPlan(*(vectors[key] for key in keys))
    language_model, tokenizer = load_frozen(snapshot, **model)
    template = template_for(prompts, tokenizer)
    rows, cut = shorten_inputs(read_parquet(task), tokenizer, template, max_input_tokens)
    table = build_prompts(rows, name, plan, template, seed)
    questions = encode_questions(tokenizer, table[table.kind == CLEAN])
    with progress(len(questions), f"activations {name}") as done:
        found = mean_head_activations(PrefixEngine(language_model), questions, batch_tokens, done)
    write_parquet(prompt_table, table, TYPES)
    write_activations(mean, name, found)
    return {**_facts(found, table[table.kind == SHUFFLED]), "inputs_cut": int(cut.sum())}


def _facts(found, shuffled) -> dict:
    """What the record says of the averages and of the shuffled prompts."""
    facts = {"averaged_over": found.over, "correct": found.correct, "prompts": found.prompts}
    return facts | {"unshuffled": int(shuffled.unshuffled.sum()), "labels_kept": float(shuffled.kept.mean())}


if __name__ == "__main__":
    from anamnesis.core.job import run_job

    run_job(snakemake, main)

"""Write one shard of a task's causal effects: every head of every layer on label-shuffled prompts (eq. 2)."""

from collections.abc import Mapping
from typing import Any

from anamnesis.core.artifacts import read_parquet, read_tensors, write_parquet


def main(
    snapshot: str,
    prompt_table: str,
    mean: str,
    name: str,
    model: Mapping[str, Any],
    target: str,
    batch_tokens: int,
    shard: int,
    shards: int,
    effects: str,
) -> dict:
    """Write ``effects`` (parquet; see ``vectors.ranking.EFFECT_COLUMNS``)."""
    from anamnesis.core.progress import progress
    from anamnesis.engine.prefix_engine import PrefixEngine
    from anamnesis.models.loading import load_frozen
    from anamnesis.vectors.effects import causal_effects
    from anamnesis.vectors.icl import SHUFFLED, encode_questions, shuffled_prompts

    prompts = read_parquet(
        prompt_table, ["prompt_id", "kind", "text", "before_answer", "target", "unshuffled"]
    )
    table = shuffled_prompts(prompts, name)
    language_model, tokenizer = load_frozen(snapshot, **model)
    questions = encode_questions(tokenizer, table)
    with progress(-(-len(questions) // shards), f"sweep {name} {shard + 1}/{shards}") as done:
        frame = causal_effects(
            PrefixEngine(language_model),
            questions,
            list(table.prompt_id),
            read_tensors(mean)["mean"],
            batch_tokens,
            target,
            shard,
            shards,
            done,
        )
    write_parquet(effects, frame)
    unshuffled = int((prompts.kind == SHUFFLED).sum()) - len(table)
    return {"prompts": int(frame.prompt_id.nunique()) if len(frame) else 0, "unshuffled": unshuffled}


if __name__ == "__main__":
    from anamnesis.core.job import run_job

    run_job(snakemake, main)

"""Write what adding, removing and randomising a set's instruction vector does, layer by layer (appendix
E).
"""

from collections.abc import Mapping, Sequence
from typing import Any

from anamnesis.core.artifacts import read_parquet, read_tensors, write_parquet
from anamnesis.core.errors import UserError


def main(
    snapshot: str,
    task: str,
    vector: str,
    name: str,
    model: Mapping[str, Any],
    interventions: Mapping[str, Any],
    prompts: Mapping[str, Any],
    max_input_tokens: int,
    seed: int,
    batch_tokens: int,
    output: str,
) -> dict:
    """Write ``output`` (parquet: set, split, layer, condition, base, accuracy, n)."""
    from anamnesis.core.progress import progress
    from anamnesis.data.chat import template_for
    from anamnesis.data.shortening import shorten_inputs
    from anamnesis.engine.prefix_engine import PrefixEngine
    from anamnesis.models.loading import load_frozen
    from anamnesis.stats.layers import best_layer
    from anamnesis.vectors.interventions import SPLITS, intervention_table

    language_model, tokenizer = load_frozen(snapshot, **model)
    engine = PrefixEngine(language_model)
    _check_layers(interventions["layers"], engine.geometry.n_layers)
    template = template_for(prompts, tokenizer)
    rows, cut = shorten_inputs(read_parquet(task), tokenizer, template, max_input_tokens)
    theta = read_tensors(vector)["theta"]
    count = sum(min(interventions["examples"], int((rows.split == split).sum())) for split in SPLITS)
    with progress(2 * count, f"interventions {name}") as done:
        table = intervention_table(
            engine, tokenizer, rows, name, theta, template, interventions, seed, batch_tokens, done
        )
    write_parquet(output, table)
    layer = best_layer(table)
    added = table[(table.condition == "add") & (table.layer == layer)].set_index("split").accuracy
    facts = {"chosen_layer": layer, **{f"{split}_accuracy": float(added[split]) for split in SPLITS}}
    return facts | {"inputs_cut": int(cut.sum())}


def _check_layers(layers: Sequence[int] | None, count: int) -> None:
    for layer in layers or ():
        if layer >= count:
            raise UserError(
                f"interventions.layers names {layer}, which the model does not have: layers are 0 to "
                f"{count - 1}; give layers in that range, or null for every layer"
            )


if __name__ == "__main__":
    from anamnesis.core.job import run_job

    run_job(snakemake, main)

"""Write how much the vectors of one set depend on the prompts they are made from."""

from collections.abc import Mapping
from typing import Any

from anamnesis.core.artifacts import read_parquet, read_tensors, write_parquet


def main(
    snapshot: str,
    task: str,
    heads: str,
    initial: str,
    name: str,
    model: Mapping[str, Any],
    robustness: Mapping[str, Any],
    optimised: Mapping[str, Any],
    asking: Mapping[str, Any],
    prompts: Mapping[str, str],
    max_input_tokens: int,
    seed: int,
    batch_tokens: int,
    table: str,
) -> dict:
    """Write ``table`` (parquet, ``dynamics.robustness_tables.COLUMNS``). ``initial``: of the trace of the
    model before training, which knows the layer for the set. ``asking``: ``shots`` and
    ``include_instruction`` of in-context prompts, and ``examples``.
    """
    from anamnesis.analyses.robustness.measure import Plan, draws_of
    from anamnesis.analyses.robustness.measure import robustness as measured
    from anamnesis.core.progress import progress
    from anamnesis.data.chat import template_for
    from anamnesis.data.lengths import shorten_inputs
    from anamnesis.engine.prefix_engine import PrefixEngine
    from anamnesis.models.loading import load_model
    from anamnesis.vectors.instruction import selected_heads
    from anamnesis.vectors.optimised import Optimisation

    language_model, tokenizer = load_model(snapshot, **model)
    template, layer = template_for(prompts, tokenizer), int(read_tensors(initial)[f"{name}.layer"])
    rows, cut = shorten_inputs(read_parquet(task), tokenizer, template, max_input_tokens)
    steps = Optimisation(layer, robustness["steps"], optimised["batch_size"], optimised["learning_rate"])
    selected = selected_heads(read_parquet(heads, ["layer", "head", "selected"]))
    plan = Plan(
        robustness["prompts"], robustness["draws"], selected, steps, optimised["norm"], **asking, seed=seed,
        token_budget=batch_tokens,
    )  # fmt: skip
    drawn = draws_of(rows, name, plan)
    with progress(len(drawn), f"robustness {name}") as done:
        found = measured(PrefixEngine(language_model), tokenizer, rows, name, template, plan, done)
    write_parquet(table, found)
    return {"layer": layer, "draws": len(drawn), "inputs_cut": int(cut.sum())}


if __name__ == "__main__":
    from anamnesis.core.job import run_job

    run_job(snakemake, main)

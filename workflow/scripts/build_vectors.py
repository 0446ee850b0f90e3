"""Write the instruction vector of every task: the selected heads' mean outputs through their slices of W_O,
or a vector optimised on the answers to zero-shot prompts.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from anamnesis.core.artifacts import read_parquet, read_tensors, write_tensors


def main(
    snapshot: str,
    heads: str,
    means: Sequence[str],
    tables: Sequence[str],
    tasks: Sequence[str],
    model: Mapping[str, Any],
    optimised: Mapping[str, Any] | None,
    batch_tokens: int,
    vectors: Sequence[str],
) -> dict:
    """Write ``vectors`` (safetensors: theta), one per task, in the order of ``means``, ``tasks`` and
    ``tables``.

    ``tables``: the tasks themselves, where ``optimised`` says how vectors are optimised on them; otherwise
    empty.
    """
    from anamnesis.engine.prefix_engine import PrefixEngine
    from anamnesis.models.loading import load_frozen
    from anamnesis.vectors.instruction import instruction_vector, selected_heads, warn_if_negligible

    language_model, tokenizer = load_frozen(snapshot, **model)
    engine = PrefixEngine(language_model)
    chosen = selected_heads(read_parquet(heads, ["layer", "head", "selected"]))
    norms, losses = {}, {}
    for task, mean, table, output in zip(tasks, means, tables or means, vectors, strict=True):
        averaged = read_tensors(mean)
        theta = instruction_vector(engine.geometry, averaged["mean"], chosen, averaged.get("scale"))
        header = {"task": task, "heads": str(chosen)}
        if optimised is not None:
            found = _optimise(engine, tokenizer, task, table, optimised, float(theta.norm()), batch_tokens)
            theta, losses[task] = found.theta, [round(found.before, 4), round(found.after, 4)]
            header = {"task": task, "optimised": str(dict(optimised))}
        warn_if_negligible(theta, averaged["stream"], task)
        write_tensors(output, {"theta": theta}, header)
        norms[task] = round(float(theta.norm()), 4)
    facts = {"heads": [list(pair) for pair in chosen], "norms": norms}
    return facts | ({"answer_loss_without_and_with": losses} if losses else {})


def _optimise(engine, tokenizer, task: str, table: str, settings: Mapping, norm: float, batch_tokens: int):
    """``norm``: that of the vector of the heads, which the optimised one may have so many times."""
    from anamnesis.core.progress import progress
    from anamnesis.data.chat import template_for
    from anamnesis.data.prompts import generator
    from anamnesis.data.shortening import shorten_inputs
    from anamnesis.vectors.optimised import Optimisation, chosen_layer, optimised_vector, zero_shot_examples

    rng = generator(settings["seed"], task, "optimised")
    template = template_for(settings["prompts"], tokenizer)
    layer = chosen_layer(engine.geometry, settings["layer"])
    rows, _ = shorten_inputs(read_parquet(table), tokenizer, template, settings["max_input_tokens"])
    examples = zero_shot_examples(rows, tokenizer, template, settings["examples"], rng)
    plan = Optimisation(layer, settings["steps"], settings["batch_size"], settings["learning_rate"])
    with progress(plan.steps, f"vector {task}") as done:
        return optimised_vector(engine, examples, plan, settings["norm"] * norm, rng, batch_tokens, done)


if __name__ == "__main__":
    from anamnesis.core.job import run_job

    run_job(snakemake, main)

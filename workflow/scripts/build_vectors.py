"""Write the instruction vector of every task: the selected heads' mean outputs through their slices of
W_O.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from anamnesis.artifacts import read_parquet, read_tensors, write_tensors


def main(
    snapshot: str,
    heads: str,
    means: Sequence[str],
    tasks: Sequence[str],
    model: Mapping[str, Any],
    vectors: Sequence[str],
) -> dict:
    """Write ``vectors`` (safetensors: theta), one per task, in the order of ``means`` and ``tasks``."""
    from anamnesis.models.loading import load_model
    from anamnesis.prefix.engine import PrefixEngine
    from anamnesis.vectors.instruction import instruction_vector, selected_heads

    means, vectors = ([x] if isinstance(x, str) else x for x in (means, vectors))
    language_model, _ = load_model(snapshot, model["dtype"], model["device"])
    geometry = PrefixEngine(language_model).geometry
    chosen = selected_heads(read_parquet(heads, ["layer", "head", "selected"]))
    norms = {}
    for task, mean, output in zip(tasks, means, vectors, strict=True):
        theta = instruction_vector(geometry, read_tensors(mean)["mean"], chosen)
        write_tensors(output, {"theta": theta}, {"task": task, "heads": str(chosen)})
        norms[task] = round(float(theta.norm()), 4)
    return {"heads": [list(pair) for pair in chosen], "norms": norms}


if __name__ == "__main__":
    from anamnesis.job import run_job

    run_job(snakemake, main)

"""The measures of all stages together: tables for figures, what predicts forgetting, the paper's claims."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from anamnesis.analyses.mechanisms.claims import beside_claims, markdown, tabled
from anamnesis.analyses.mechanisms.comparison import associations, interference_along, pairs_frame
from anamnesis.analyses.mechanisms.last_stage import chain_summary, compared
from anamnesis.core.artifacts import read_parquet, read_tensors, write_parquet, write_text
from anamnesis.core.errors import UserError

STAGE_TABLES = ("drift", "heads", "routing", "landscape")  # of trained stages only
ALL_TABLES = ("gradients", "similarity", "losses")  # of the untrained model too


def main(
    curves: str,
    vectors: Sequence[str],
    reference: str,
    sets: Sequence[str],
    chains: Sequence[Mapping[str, Any]],
    orders: Sequence[Sequence[str]],
    cutoffs: Mapping[str, float],
    statistics: Mapping[str, Any],
    **files: Any,
) -> None:
    """``files``: the stage tables, chain after chain, under their names (those of the untrained model first,
    under ``base_`` names), and the outputs, under ``write_`` names.
    """
    if not chains:
        raise UserError(
            "mechanisms.methods: none of training.methods can be measured (osf, or jfa with latent tasks); "
            "train another method too"
        )
    stages = len(orders[0])
    keys = [{**chain, "stage": stage} for chain in chains for stage in range(1, stages + 1)]
    tables = {n: joined(files[n], keys) for n in (*STAGE_TABLES, *ALL_TABLES)}
    starts = [{**chain, "stage": 0} for chain in chains]
    for name in ALL_TABLES:
        before = joined([files[f"base_{name}"]] * len(starts), starts)
        tables[name] = pd.concat([before, tables[name]], ignore_index=True)
    tables["interference"] = interference_along(tables.pop("gradients"), orders)
    accuracy = read_parquet(curves)
    accuracy = accuracy.merge(pd.DataFrame(chains), on=["method", "order", "seed"])
    pairs = pairs_frame(accuracy, tables, cosines(vectors, sets), orders, cutoffs["output"])
    options = statistics["bootstrap_resamples"], statistics["confidence"]
    found = associations(pairs, *options)
    summary = chain_summary(tables, cutoffs)
    claims = beside_claims(pd.read_csv(reference), tables, pairs, found, summary, cutoffs)
    frames = {**{name: tables[name] for name in ("interference", *STAGE_TABLES)}, "pairs": pairs}
    for name, frame in frames.items():
        write_parquet(files[f"write_{name}"], frame)
    side_by_side = compared(summary, *options)
    texts = {"predictors": found, "comparison": side_by_side, "claims": claims}
    for name, frame in texts.items():
        write_text(files[f"write_{name}"], frame.to_csv(index=False, lineterminator="\n"))
    write_text(files["write_markdown"], markdown(tabled(side_by_side, found, claims)))


def joined(paths: Sequence[str] | str, keys: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    paths = [paths] if isinstance(paths, str) else paths
    frames = [read_parquet(path).assign(**key) for path, key in zip(paths, keys, strict=True)]
    return pd.concat([f for f in frames if len(f)] or frames, ignore_index=True)


def cosines(files: Sequence[str], sets: Sequence[str]) -> pd.DataFrame:
    """set, other, cosine of their instruction vectors in the untrained model."""
    thetas = {name: read_tensors(path)["theta"] for name, path in zip(sets, files, strict=True)}
    unit = {name: theta / theta.norm() for name, theta in thetas.items()}
    rows = [(a, b, float(unit[a] @ unit[b])) for a in sets for b in sets if a != b]
    return pd.DataFrame(rows, columns=["set", "other", "cosine"])


if __name__ == "__main__":
    from anamnesis.core.job import run_job

    run_job(snakemake, main)

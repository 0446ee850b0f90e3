"""Write the accuracy matrices of all chains, each chain's measures, Table 1, and which answers changed."""

from collections.abc import Mapping, Sequence
from typing import Any


def main(
    evaluations: Sequence[str],
    reference: str,
    chains: Sequence[Mapping],
    orders: Sequence[Sequence[str]],
    compared: Sequence[Mapping[str, str]],
    statistics: Mapping[str, Any],
    curves: str,
    measures: str,
    table: str,
    comparisons: str,
    held_out: str,
    markdown: str,
    latex: str,
    answers: Sequence[str],
    tasks: Sequence[str] = (),
    recovered: Sequence[str] = (),
    harness: Sequence[str] = (),
    harness_stages: Sequence[int] = (),
    pool: Sequence[str] = (),
) -> dict:
    """``evaluations``: stages 0 to T of each chain, chain after chain. ``reference``: the published
    numbers. ``compared``: pairs of methods besides guided and plain. ``harness``: records of tasks of
    lm-evaluation-harness at ``harness_stages`` of each chain. ``pool``: accuracy tables of other runs,
    whose chains join all tables but ``answers`` (``stats.answer_changes``, from ``tasks`` and ``recovered``).
    """
    import pandas as pd

    from anamnesis.core.artifacts import read_parquet, write_parquet, write_text
    from anamnesis.core.steps import listed, store_all
    from anamnesis.stats.answer_changes import answer_tables
    from anamnesis.stats.chains import read_chains, read_chance
    from anamnesis.stats.comparisons import by_order, comparison_markdown, comparison_table
    from anamnesis.stats.held_out import held_out_markdown, held_out_table
    from anamnesis.stats.paper_table import published_markdown
    from anamnesis.stats.pooling import pooled
    from anamnesis.stats.printed import to_csv, to_latex, to_markdown
    from anamnesis.stats.summary import chain_measures, curves_frame, table1

    own = read_chains(evaluations, chains, orders, harness, harness_stages)
    frames = pooled(own, [(p, read_parquet(p)) for p in pool], orders)
    per_chain = chain_measures(frames)
    how = statistics["bootstrap_resamples"], statistics["confidence"]
    summary = table1(per_chain, *how)
    write_parquet(curves, curves_frame(frames))
    write_parquet(measures, per_chain)
    paired = comparison_table(per_chain, [*compared, *by_order(per_chain, compared)], *how)
    lost = held_out_table(frames, read_chance(evaluations, harness), *how)
    for path, frame in ((table, summary), (comparisons, paired), (held_out, lost)):
        write_text(path, to_csv(frame))
    counted = {"chains": len(frames), "pooled": len(frames) - len(chains)}
    parts = [to_markdown(summary), _joined(counted["pooled"], pool), held_out_markdown(lost)]
    parts += [comparison_markdown(paired), published_markdown(summary, pd.read_csv(reference))]
    write_text(markdown, "".join(parts))
    write_text(latex, to_latex(summary))
    store_all(answers, answer_tables(evaluations, chains, len(orders[0]), listed(tasks), listed(recovered)))
    return counted


def _joined(count: int, pool: Sequence[str]) -> str:
    """A line on chains of other runs."""
    return f"\nChains of other runs: {count} ({', '.join(pool)}).\n" if pool else ""


if __name__ == "__main__":
    from anamnesis.core.job import run_job

    run_job(snakemake, main)

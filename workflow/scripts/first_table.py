"""Write Table 1 of the first seed alone, so that there is a table long before the run ends."""

from collections.abc import Mapping, Sequence
from typing import Any


def main(
    evaluations: Sequence[str],
    chains: Sequence[Mapping],
    orders: Sequence[Sequence[str]],
    statistics: Mapping[str, Any],
    markdown: str,
) -> dict:
    """Write ``markdown``. ``evaluations``: stages 0 to T of each of ``chains``, chain after chain."""
    from anamnesis.core.artifacts import write_text
    from anamnesis.stats.chains import read_chains, read_chance
    from anamnesis.stats.held_out import held_out_markdown, held_out_table
    from anamnesis.stats.printed import to_markdown
    from anamnesis.stats.summary import chain_measures, table1

    found = read_chains(evaluations, chains, orders)
    how = statistics["bootstrap_resamples"], statistics["confidence"]
    table = table1(chain_measures(found), *how)
    lost = held_out_table(found, read_chance(evaluations), *how)
    write_text(markdown, to_markdown(table) + held_out_markdown(lost))
    return {"chains": len(found)}


if __name__ == "__main__":
    from anamnesis.core.job import run_job

    run_job(snakemake, main)

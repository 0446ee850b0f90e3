"""Say where the results of a configuration are, the headline numbers and what jobs warned about: ``anamnesis
headline [CONFIG ...]``.

Several configuration files are laid over each other as Snakemake does, later ones on top.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from anamnesis.analyses.registry import analyses, shown_figures
from anamnesis.commands import reported
from anamnesis.config.job_inputs import Experiment
from anamnesis.config.layout import Layout
from anamnesis.config.load import load_experiment
from anamnesis.config.models import Config
from anamnesis.core.errors import UserError, shorten
from anamnesis.core.run_warnings import in_jobs, run_warnings
from anamnesis.stats.intervals import MINIMUM_PAIRS

WARNINGS_SHOWN = 8
LONGEST_WARNING = 300  # characters


def headline(config: Config) -> str:
    """The text printed at the end of a run: paths of table, figures and report, then IP per method and its
    difference, then the warnings of jobs that may concern the numbers.

    Raises UserError when the run has not finished.
    """
    experiment = Experiment(config)
    folder, run = experiment.places.experiment, experiment.run()
    figures = [figure.name for figure in shown_figures(run, analyses(run))]
    table = _read_table(folder / "table1.csv")
    places = {
        "table": f"{folder / 'table1.md'} (.csv, .tex)",
        "figures": f"{experiment.places.figures}/ ({_made_of(figures, experiment.places.figures)})",
        **({"report": str(experiment.places.report)} if config.training.seeds else {}),
    }
    width = max(map(len, places))
    lines = [f"{name:<{width}}  {place}" for name, place in places.items()]
    return "\n".join([*lines, "", *_rows(table), *_warnings(experiment.places)]) + "\n"


def _read_table(path: Path) -> pd.DataFrame:
    try:
        table = pd.read_csv(path, keep_default_na=True)
    except (OSError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise UserError(
            f"table {path} cannot be read ({error}): let the workflow finish, then try again"
        ) from error
    missing = {"kind", "method", "guided", "measure", "mean", "sd", "n", "low", "high"} - set(table.columns)
    if missing:
        raise UserError(f"table {path} has no column '{min(missing)}': delete it and run the workflow again")
    return table


def _made_of(figures: Sequence[str], folder: Path) -> str:
    """Those that are there; others in the folder are left from an experiment of more."""
    names = sorted(name for name in figures if (folder / f"{name}.png").exists())
    return ", ".join(names) if names else "none yet"


def _rows(table: pd.DataFrame) -> list[str]:
    """Aligned lines of the in-context accuracy on held-out sets (IP), the measure the method is meant for."""
    ip = table[table["measure"] == "ip"]
    cells = [_level(row) for row in ip[ip["kind"] == "level"].itertuples()]
    cells += [_difference(row) for row in ip[ip["kind"] == "difference"].itertuples()]
    width = max((len(name) for name, _ in cells), default=0)
    title = "In-context accuracy on held-out sets after the last stage (IP, %)"
    return [title, *(f"  {name:<{width}}  {value}" for name, value in cells)]


def _warnings(places: Layout) -> list[str]:
    """One line for each distinct warning, with the jobs that it comes from; nothing without any."""
    found = run_warnings(places.suite)
    if not found:
        return []
    more = [f"  and {len(found) - WARNINGS_SHOWN} more"] * (len(found) > WARNINGS_SHOWN)
    lines = [f"  {in_jobs(jobs)}: {shorten(text, LONGEST_WARNING)}" for text, jobs in found[:WARNINGS_SHOWN]]
    return ["", f"Jobs warned of what may concern these numbers (logs: {places.logs})", *lines, *more]


def _level(row) -> tuple[str, str]:
    spread = f" ± {100 * row.sd:4.1f}" if row.n > 1 else " " * 7
    return row.method, f"{100 * row.mean:z5.1f}{spread}  n={row.n}"


def _difference(row) -> tuple[str, str]:
    name = f"{row.guided} − {row.method}"
    if row.n == 0:
        return name, "no common order and seed"
    interval = f"  [{100 * row.low:+z.1f}, {100 * row.high:+z.1f}]" if pd.notna(row.low) else "  no interval"
    return name, f"{100 * row.mean:+z5.1f}{interval}  n={row.n} paired" + (
        ": weak evidence" if row.n < MINIMUM_PAIRS else ""
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the headline of the configuration files named on the command line; 1 and one line of error if
    there is none.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] in (["-h"], ["--help"]):
        print("usage: anamnesis headline [CONFIG ...]")
        return 0
    return reported(lambda: print(headline(load_experiment(words)), end=""))


if __name__ == "__main__":
    raise SystemExit(main())

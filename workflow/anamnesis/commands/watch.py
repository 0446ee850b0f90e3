"""Say how far a run is while it goes on: ``anamnesis watch [--once] [CONFIG ...]``.

It only reads logs and results, in the folder in which the run was started. Several configuration files are
laid over each other as Snakemake does, later ones on top.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markdown import Markdown
from rich.table import Table

from anamnesis.commands import reported
from anamnesis.commands.run_state import Chain, RunState, read_run
from anamnesis.config.load import load_experiment
from anamnesis.config.models import Config
from anamnesis.core.progress import duration

SECONDS_BETWEEN_LOOKS = 2
SECONDS_BETWEEN_LINES = 30  # where nothing can be written over
COLUMNS = ("chain", "stage", "at work", "loss", "time left")


def cells(chain: Chain) -> list[str]:
    """A chain in the words of ``COLUMNS``."""
    left = "–" if chain.seconds_left is None else duration(chain.seconds_left) if chain.seconds_left else ""
    loss = "–" if chain.loss is None else f"{chain.loss:.3f}"
    return [chain.name, f"{chain.trained} of {chain.stages}", chain.doing, loss, left]


def last_line(run: RunState) -> str:
    """What comes of the run, or how to go on."""
    if run.failed:
        return "\n".join(f"{name}: {reason}" for name, reason in run.failed.items())
    if run.report.exists() and all(chain.done for chain in run.chains) and not run.alive:
        return f"done: {run.report}"
    if not run.alive:
        return "no run is at work here: `make run` goes on where it stopped"
    if all(chain.done for chain in run.chains):
        return "all chains are done: tables, figures and report come next"
    left = run.seconds_left
    return "time left: not known before a stage has ended" if left is None else f"about {duration(left)} left"


def picture(run: RunState) -> RenderableType:
    """The state of a run for a terminal."""
    table = Table(*COLUMNS, box=None, pad_edge=False)
    for chain in run.chains:
        table.add_row(*cells(chain))
    others = [f"{job.name}: {job.doing}" for job in run.others]
    first = [Markdown(run.first_table)] if run.first_table else []
    return Group(table, *others, *first, last_line(run))


def lines(run: RunState) -> Iterator[str]:
    """The same in plain lines."""
    rows = [list(COLUMNS), *map(cells, run.chains)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
    yield from (f"{job.name}: {job.doing}" for job in run.others)
    if run.first_table:
        yield f"\n{run.first_table}"
    yield last_line(run)


def watch(config: Config, console: Console, once: bool = False) -> None:
    """Show the run until it ends, or once."""
    run = read_run(config)
    if once or not run.alive or not console.is_terminal:
        _in_lines(config, run, console, once)
        return
    with Live(picture(run), console=console, auto_refresh=False) as live:
        while run.alive:
            time.sleep(SECONDS_BETWEEN_LOOKS)
            run = read_run(config)
            live.update(picture(run), refresh=True)


def _in_lines(config: Config, run: RunState, console: Console, once: bool) -> None:
    """The rows that have changed since they were written last; the first table when it is new."""
    written: set[str] = set()
    while True:
        for line in lines(run):
            if line not in written:
                written.add(line)
                console.file.write(f"{line}\n")
        console.file.flush()
        if once or not run.alive:
            return
        time.sleep(SECONDS_BETWEEN_LINES)
        run = read_run(config)


def main(arguments: Sequence[str] | None = None) -> int:
    """Watch the run of the configuration files named on the command line; 1 and one line for a bad one."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    words = [word for word in given if word != "--once"]
    if words[:1] in (["-h"], ["--help"]):
        print("usage: anamnesis watch [--once] [CONFIG ...]")
        return 0
    console = Console(highlight=False, markup=False)
    try:
        return reported(lambda: watch(load_experiment(words), console, once="--once" in given))
    except KeyboardInterrupt:  # the run goes on
        return 130


if __name__ == "__main__":
    raise SystemExit(main())

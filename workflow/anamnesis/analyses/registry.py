"""What an analysis registers. No torch, so that the rules can read it.

Functions are named "module:function" and are imported by the job alone; its digest is that of the generic
script and of this module with all that it imports.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from anamnesis.analyses import NAMES
from anamnesis.core.run import Run
from anamnesis.figures.core_figures import FigureEntry, core_figures

STAGE = "{method}-order{order}-seed{seed}-stage{stage}"


@dataclass(frozen=True)
class Measure:
    """A rule with a model in memory: ``call`` gets the paths of files, the params and ``batch_tokens``.

    Values of inputs and params may be functions of wildcards; ``unpacked``: functions that give several
    inputs. ``each``: the wildcards of its outputs, as in the names of logs; ``needs``: what the job does with
    the model, and ``time``: the kind of job it takes about as long as (both of ``estimate.demands``).
    """

    name: str
    call: str
    inputs: Mapping[str, Any]
    outputs: Mapping[str, Path]
    params: Mapping[str, Any]
    each: str = ""
    unpacked: Sequence[Callable] = ()
    needs: Literal["forward", "gradients", "training"] = "forward"
    time: str = "trace"


@dataclass(frozen=True)
class Tabulate:
    """A rule without a model: ``call`` gets the contents of the inputs and returns those of the outputs."""

    name: str
    call: str
    inputs: Mapping[str, Any]
    outputs: Mapping[str, Any]
    params: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Analysis:
    """``results``: the files whose existence says that the analysis was made, and that its section shows;
    ``section``: function from ``report.results.AnalysisResults`` to sections of the report. ``further``:
    other files of the target; ``asked``: whether the configuration asks for it at all.
    """

    name: str
    measures: Sequence[Measure]
    tables: Sequence[Tabulate]
    figures: Sequence[FigureEntry]
    results: Sequence[Path]
    section: str
    further: Sequence[Path] = ()
    asked: bool = True


def analyses(run: Run) -> list[Analysis]:
    """All analyses for an experiment."""
    return [import_module(f"anamnesis.analyses.{name}").analysis(run) for name in NAMES]


def made(found: Sequence[Analysis]) -> list[Analysis]:
    """Those that have been made: figures and report show them from then on, and keep them up to date."""
    return [one for one in found if one.asked and all(path.exists() for path in one.results)]


def shown_figures(run: Run, found: Sequence[Analysis]) -> list[FigureEntry]:
    """The figures of an experiment in the order of the report. Others in its folder are left from before."""
    figures = [*core_figures(run), *(figure for one in made(found) for figure in one.figures)]
    return [figure for figure in figures if figure.shown]

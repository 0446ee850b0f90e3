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
from anamnesis.figures.core_figures import FigureEntry

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

"""How much of a job's time is its own work: all but the time of Python's imports."""

from __future__ import annotations

import builtins
import gc
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass
class Spent:
    """Seconds of a block, complete after it: ``total``, and those of its import statements."""

    total: float = 0.0
    imports: float = 0.0

    @property
    def work(self) -> float:
        return self.total - self.imports

    def __str__(self) -> str:
        return f"{self.work:.2f} s of work, {self.imports:.2f} s of imports"


LINE = re.compile(r"([\d.]+) s of work, ([\d.]+) s of imports$", flags=re.MULTILINE)
"""Finds ``str(Spent)`` in a log."""


@contextmanager
def stopwatch() -> Iterator[Spent]:
    """Time a block, and the imports in it. Every import statement is timed, as libraries import many of their
    modules at first use. Imports in other threads count as work.

    The garbage collector is off during imports: their objects stay, and searching them again and again takes
    a quarter of the import time of torch, transformers and peft together (measured).
    """
    spent, original, thread = Spent(), builtins.__import__, threading.get_ident()
    inside = False

    def timed(*arguments, **options):
        nonlocal inside
        # an import inside an import is part of the outer one's time
        if inside or threading.get_ident() != thread:
            return original(*arguments, **options)
        inside, begin, collecting = True, time.perf_counter(), gc.isenabled()
        gc.disable()
        try:
            return original(*arguments, **options)
        finally:
            inside = False
            if collecting:
                gc.enable()
            spent.imports += time.perf_counter() - begin

    begin = time.perf_counter()
    builtins.__import__ = timed
    try:
        yield spent
    finally:
        builtins.__import__ = original
        spent.total = time.perf_counter() - begin

"""What of a job's time is its own work: all of it but what Python spends on importing modules."""

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
    """Seconds in a block: ``total``, and ``imports`` of them in import statements. Whole after the block."""

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
    """Time a block, with the imports in it: libraries import much of themselves when it is first needed, so
    that no list of modules would cover it. Imports in other threads than this one count as work.

    During imports the garbage collector rests: what they make stays, and to look through it again and again
    takes a quarter of the time of torch, transformers and peft together (measured).
    """
    spent, plain, own = Spent(), builtins.__import__, threading.get_ident()
    inside = False

    def timed(*arguments, **options):
        nonlocal inside
        if inside or threading.get_ident() != own:
            return plain(*arguments, **options)
        inside, begin, collecting = True, time.perf_counter(), gc.isenabled()
        gc.disable()
        try:
            return plain(*arguments, **options)
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
        builtins.__import__ = plain
        spent.total = time.perf_counter() - begin

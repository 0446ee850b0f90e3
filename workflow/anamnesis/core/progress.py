"""Progress of long work: a bar on a terminal, a plain line now and then anywhere else."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm

SECONDS_BETWEEN_LINES = 30
log = logging.getLogger(__name__)


@contextmanager
def progress(total: int, what: str) -> Iterator[Callable[[int], None]]:
    """Yields a function that takes the number of items just done."""
    if sys.stderr.isatty():
        with tqdm(total=total, desc=what, file=sys.stderr, dynamic_ncols=True) as bar:
            yield lambda done: bar.update(done) and None
        return
    done_so_far, last_line = 0, time.monotonic()

    def advance(done: int) -> None:
        nonlocal done_so_far, last_line
        done_so_far += done
        if time.monotonic() - last_line >= SECONDS_BETWEEN_LINES:
            last_line = time.monotonic()
            print(f"{what}: {done_so_far} of {total}", file=sys.stderr, flush=True)

    yield advance
    log.info("%s: %d of %d", what, done_so_far, total)

"""Table 1 from more records than should be in memory at once."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from records import tabulate, write_records

SLACK = 100  # MiB: reading all of them at once takes about 400 more for four times as many records


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc (Linux)")
def test_memory_does_not_grow_with_the_records(tmp_path):
    peaks = []
    for rows in (250_000, 1_000_000):
        folder = tmp_path / str(rows)
        folder.mkdir()
        peaks.append(tabulate(folder, write_records(folder, rows, chains=2)))
    assert peaks[1] <= peaks[0] + SLACK

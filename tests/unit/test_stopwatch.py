"""What of a job's time counts as work, and that its log says so."""

from __future__ import annotations

import builtins
import gc
import importlib
import sys
import time

import pytest

from anamnesis.core.stopwatch import LINE, Spent, stopwatch


def test_time_in_imports_is_no_work(tmp_path, monkeypatch):
    (tmp_path / "outer_module.py").write_text("import inner_module\n")
    (tmp_path / "inner_module.py").write_text(
        "import gc, time\ntime.sleep(0.2)\ncollecting = gc.isenabled()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    before = builtins.__import__
    with stopwatch() as spent:
        import outer_module

        time.sleep(0.1)
    assert builtins.__import__ is before
    assert (outer_module.inner_module.collecting, gc.isenabled()) == (False, True)
    assert spent.imports == pytest.approx(0.2, abs=0.1)  # once, though one import is inside another
    assert spent.work >= 0.1
    assert spent.total == pytest.approx(spent.work + spent.imports)
    for name in ("outer_module", "inner_module"):
        del sys.modules[name]
    importlib.invalidate_caches()


def test_a_failure_leaves_imports_as_they_were():
    before = builtins.__import__
    with pytest.raises(KeyError), stopwatch():
        raise KeyError
    assert builtins.__import__ is before


def test_what_is_logged_is_found_again():
    text = f"2026-01-01 INFO anamnesis.core.job: {Spent(total=12.5, imports=2.25)}\nmore\n"
    assert LINE.search(text).groups() == ("10.25", "2.25")

"""Two runs started in one folder at the same moment, and a plan meanwhile."""

from __future__ import annotations

import pytest

from runs import HEADS, SUITE, differences, rolled_back

pytestmark = pytest.mark.faults


@pytest.mark.parametrize("targets", [[(), ()], [(HEADS,), (SUITE / "base/stage0/evaluation.parquet",)]])
def test_one_runs_and_the_other_says_why_not(undisturbed, tmp_path, targets):
    run = rolled_back(undisturbed, tmp_path / "run", 8)
    processes = [run.start(*each) for each in targets]
    ends = [process.wait(timeout=900) for process in processes]
    said = (run.folder / "run.log").read_text()
    assert sorted(ends) == [0, 1], said
    assert said.count("the run cannot begin: another run (process ") == 1
    assert "Traceback" not in said
    done = run.run()
    assert done.returncode == 0, done.stdout
    assert differences(run, undisturbed) == []

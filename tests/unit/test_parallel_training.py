"""Two processes train as one does: the same losses and weights for the same batches, up to rounding."""

from __future__ import annotations

import numpy as np
import pytest
from parallel_stages import CASES, run_cases, write_earlier

from anamnesis.compute.processes import run_together


@pytest.fixture(scope="module")
def runs(snapshot, tmp_path_factory):
    """(everything trained by one process, by two)"""
    earlier = write_earlier(tmp_path_factory.mktemp("earlier"))
    places = {"snapshot": snapshot, "earlier": earlier}
    one, two = (tmp_path_factory.mktemp(name) for name in ("one", "two"))
    return run_cases(**places, folder=one), run_together(2, run_cases, {**places, "folder": two})


@pytest.mark.parametrize("case", CASES)
def test_losses_weights_and_state_are_those_of_one_process(runs, case):
    alone, together = (run[case] for run in runs)
    assert together["log"].keys() == alone["log"].keys()
    for name, values in alone["log"].items():
        np.testing.assert_allclose(together["log"][name], values, rtol=2e-5, atol=1e-6, err_msg=name)
    for part in ("weights", "state"):
        assert together[part].keys() == alone[part].keys()
        for name, values in alone[part].items():
            scale = np.abs(values).max()
            np.testing.assert_allclose(
                together[part][name], values, atol=1e-5 * scale + 1e-9, rtol=0, err_msg=name
            )
    assert len(set(alone["log"]["loss"])) > 4  # something was learnt

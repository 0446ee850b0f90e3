"""Two processes train as one does: the same losses and weights for the same batches, up to rounding."""

from __future__ import annotations

import numpy as np
import pytest

from anamnesis.core.processes import run_together
from parallel_stages import CASES, layers_kept_whole, run_cases, write_earlier


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
        np.testing.assert_allclose(together["log"][name], values, rtol=2e-6, atol=1e-6, err_msg=name)
    for part in ("weights", "state"):
        assert together[part].keys() == alone[part].keys()
        for name, values in alone[part].items():
            near = 1e-5 * np.abs(values).max() + 1e-9
            np.testing.assert_allclose(together[part][name], values, rtol=0, atol=near, err_msg=name)
    assert len(set(alone["log"]["loss"])) > 4  # something was learnt


@pytest.mark.parametrize("interruption", ["failed", "told"])
def test_a_stage_that_was_interrupted_ends_as_if_it_had_not_been(runs, interruption):
    continued = runs[1]["continued"]
    whole, after = continued["whole"], continued[interruption]
    assert after["log"] == whole["log"]
    assert all(np.array_equal(after["weights"][name], whole["weights"][name]) for name in whole["weights"])


def test_one_that_is_told_to_end_ends_all_after_the_same_step(runs):
    assert "did after step 3 of 6: nothing is lost" in runs[1]["continued"]["told: said"]


def test_a_layer_that_has_run_is_divided_again():
    """Otherwise each GPU would hold the whole model by the end of a forward pass."""
    assert run_together(2, layers_kept_whole, {}) == 0

"""Two processes, with a GPU each, train as one process does on the CPU."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from anamnesis.core.processes import run_together
from parallel_stages import CASES, run_cases, write_earlier


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
def test_losses_and_weights_are_those_of_one_process(snapshot, tmp_path):
    places = {"snapshot": snapshot, "earlier": write_earlier(tmp_path / "earlier")}
    alone = run_cases(**places, folder=tmp_path / "one")
    together = run_together(2, run_cases, {**places, "folder": tmp_path / "two", "device": "cuda"})
    for case in CASES:
        for name, values in alone[case]["log"].items():
            np.testing.assert_allclose(
                together[case]["log"][name], values, rtol=1e-3, atol=1e-4, err_msg=case
            )
        for name, values in alone[case]["weights"].items():
            near = 1e-2 * np.abs(values).max() + 1e-6
            np.testing.assert_allclose(
                together[case]["weights"][name], values, rtol=0, atol=near, err_msg=case
            )

"""Runs when Python starts with this folder on its path: what a set-up may do to every process."""

import logging
import os
import warnings

_listdir, _scandir = os.listdir, os.scandir


class _Reversed:
    """A listing of a folder in another order."""

    def __init__(self, path):
        with _scandir(path) as entries:
            self.entries = iter(list(entries)[::-1])

    def __iter__(self):
        return self.entries

    def __next__(self):
        return next(self.entries)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def close(self):
        pass


os.listdir = lambda path=".": _listdir(path)[::-1]
os.scandir = lambda path=".": _Reversed(path)
os.environ["ACCELERATE_MIXED_PRECISION"] = "bf16"
logging.disable()

if "HOSTILE_TORCH" in os.environ:
    with warnings.catch_warnings(action="ignore"):
        import torch

        torch.set_default_dtype(torch.float64)
        torch.set_float32_matmul_precision("medium")
        torch.set_autocast_enabled("cpu", True)
        torch.use_deterministic_algorithms(True)
        torch.manual_seed(99)

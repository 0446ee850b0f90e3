"""Correctness and speed on a GPU: the engine against plain passes, bfloat16 against float32, a sweep over all
heads of a 7B model with random weights, both forms of attention, training steps, and how much of the device's
matrix rate is used.

Every part prints its lines when it is done, and writes all lines so far to --output. Needs torch,
transformers, peft, pandas and what they bring; no data, no model, no network.
"""

from __future__ import annotations

import argparse
import gc
import re
import time
import traceback
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path

import torch
import transformers
from _common import Line, UserError, main, show, write
from _gpu_attention import agreement, attention
from _gpu_checks import families, rankings
from _gpu_machine import Machine
from _gpu_speed import matrix_rate, seven_billion, sweep, training


def options() -> argparse.Namespace:
    made = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    made.add_argument("--device", default="cuda", help="cuda, cuda:1, ... or cpu (default: %(default)s)")
    made.add_argument("--small", action="store_true", help="tiny shapes, without bars of speed")
    made.add_argument("--rounds", type=int, default=3, help="times each side is timed (default: %(default)s)")
    made.add_argument(
        "--seed", type=int, default=0, help="seed of weights and prompts (default: %(default)s)"
    )
    made.add_argument("--output", type=Path, help="also write the results here: a .json or .csv file")
    return made.parse_args()


def machine_of(asked: argparse.Namespace) -> Machine | None:
    """The device to use; None when it is a GPU and there is none."""
    if asked.output is not None and asked.output.suffix not in (".json", ".csv"):
        raise UserError(f"--output is '{asked.output}': give a file that ends in .json or .csv")
    if asked.rounds < 1:
        raise UserError(f"--rounds is {asked.rounds}: give 1 or more")
    if not re.fullmatch(r"cpu|cuda(:\d+)?", asked.device):
        raise UserError(f"--device is '{asked.device}': give cuda, cuda:<number> or cpu")
    if asked.device == "cpu" and not asked.small:
        raise UserError("--device is cpu, where a 7B model is out of reach: add --small")
    if asked.device != "cpu" and not torch.cuda.is_available():
        return None
    device = torch.device(asked.device)
    if device.type == "cuda":
        device = torch.device("cuda", device.index or 0)
        if device.index >= torch.cuda.device_count():
            raise UserError(
                f"--device is '{asked.device}': there are {torch.cuda.device_count()} of them, from 0"
            )
        torch.cuda.set_device(device)
    return Machine(device, asked.small, asked.rounds, asked.seed)


def parts(machine: Machine) -> Iterator[tuple[str, Callable[[], Iterator[Line]]]]:
    """Name and lines of each part; the large model is made after the checks, and once."""
    yield "engine and plain passes, float32", lambda: families(machine)
    yield "FlexAttention and grouped attention, float32", lambda: agreement(machine)
    yield "bfloat16 and float32", lambda: rankings(machine)
    rate, model = cache(partial(matrix_rate, machine)), cache(partial(seven_billion, machine))
    yield "matrix rate", lambda: iter([Line("bfloat16 matrix products", rate() / 1e12, "TFLOP/s")])
    yield "sweep", lambda: sweep(machine, model(), rate())
    yield "FlexAttention and grouped attention, speed", lambda: attention(machine, model())
    yield "training step", lambda: training(machine, model())


def completed(name: str, measure: Callable[[], Iterator[Line]]) -> Iterator[Line]:
    """The lines of a part. One that breaks counts as a bar that is missed, and the next part goes on."""
    try:
        yield from measure()
    except Exception as error:
        traceback.print_exc()
        yield Line(f"{name}: parts that broke", 1, "", 0, False, type(error).__name__)


def run() -> int:
    asked = options()
    machine = machine_of(asked)
    if machine is None:
        print("skipped: torch finds no CUDA device (--device cpu --small tries the same code without one)")
        return 0
    torch.set_float32_matmul_precision("highest")
    transformers.utils.logging.disable_progress_bar()
    facts, begin = machine.facts(), time.perf_counter()
    print(" · ".join([f"torch {torch.__version__}", *(f"{k} {v}" for k, v in facts.items())]), flush=True)
    lines: list[Line] = []
    for name, measure in parts(machine):
        found = list(completed(name, measure))
        lines += found
        show([Line(f"-- {name}, done after", time.perf_counter() - begin, "s"), *found])
        if asked.output is not None:
            write(lines, asked.output, **facts)
        gc.collect()
    missed = [line.what for line in lines if line.passed is False]
    print(f"{len(lines)} lines, {len(missed)} bars missed{': ' if missed else ''}{'; '.join(missed)}")
    return int(bool(missed))


if __name__ == "__main__":
    main(run)

"""What an experiment will cost, before it starts: ``python -m anamnesis.compute.estimate CONFIG ...``.

Operations are counted from the configuration and the model's shape; hours follow from one rate, measured on
this computer or assumed for a named device. Rules that have run already count with the seconds they took.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from anamnesis.compute.plan import as_frame, experiment_plan
from anamnesis.compute.shape import BYTES, KNOWN, Shape, known_shape, shape_from
from anamnesis.config.load import load_config
from anamnesis.config.models import Config
from anamnesis.errors import UserError
from anamnesis.models.loading import load_tokenizer

CPU_SHARE, GPU_SHARE = 0.6, 0.3  # of the matrix rate that jobs reach: measured on two cores; assumed
START_SECONDS = 9.0  # interpreter, libraries and a small model, on one core
READ_RATE = 1e9  # bytes of weights per second
FIXED = {"prepare_model": 35.0, "prepare_task": 1.0, "rank_heads": 2.0, "tabulate_results": 4.0}
FIXED["figures and report"] = 5.0


@dataclass(frozen=True)
class Device:
    """``rate``: floating-point operations per second of its matrix units in the model's type; ``share``: how
    much of it jobs reach; ``memory``: bytes.
    """

    name: str
    rate: float
    memory: float = float("inf")
    share: float = GPU_SHARE


DEVICES = {
    "a100-40gb": Device("a100-40gb", 312e12, 40e9),
    "a100-80gb": Device("a100-80gb", 312e12, 80e9),
    "h100-80gb": Device("h100-80gb", 989e12, 80e9),
    "h200-141gb": Device("h200-141gb", 989e12, 141e9),
    "l40s-48gb": Device("l40s-48gb", 362e12, 48e9),
    "rtx-4090": Device("rtx-4090", 165e12, 24e9),
}
"""bfloat16 rates from the makers' data sheets, without sparsity."""


def measured_cpu(shape: Shape, seconds: float = 1.0) -> Device:
    """One core of this computer, on a matrix product of the model's own size."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        x, w = torch.randn(256, shape.hidden), torch.randn(shape.intermediate, shape.hidden)
        torch.nn.functional.linear(x, w)
        begin, runs = time.perf_counter(), 0
        while (spent := time.perf_counter() - begin) < seconds:
            torch.nn.functional.linear(x, w)
            runs += 1
    finally:
        torch.set_num_threads(threads)
    return Device("this computer, one core", runs * 2 * x.numel() * w.shape[0] / spent, share=CPU_SHARE)


def estimate(
    config: Config,
    shape: Shape,
    device: Device,
    at_once: int,
    benchmarks: Path | None = None,
    tokenizer=None,
) -> pd.DataFrame:
    """One row per rule: jobs, tokens, flops, seconds (of all its jobs, one after another), source ("counted"
    or "measured"), memory_mib, disk_bytes; the attribute ``hours`` is the time with ``at_once`` jobs at a
    time. ``tokenizer``: None where there is none yet; lengths are guessed then.
    """
    frame = as_frame(experiment_plan(config, shape, tokenizer), shape)
    start = START_SECONDS + shape.bytes / READ_RATE
    fixed = frame["rule"].map(FIXED).fillna(start)
    frame["seconds"] = frame["jobs"] * fixed + frame["flops"] / (device.rate * device.share)
    frame["source"] = "counted"
    for i, rule in enumerate(frame["rule"]):
        found = measured_seconds(benchmarks, rule) if benchmarks else []
        if found:
            frame.loc[i, ["seconds", "source"]] = [frame.loc[i, "jobs"] * sum(found) / len(found), "measured"]
    alone = frame["rule"] == "prepare_model"  # everything waits for it
    hours = (frame["seconds"][alone].sum() + frame["seconds"][~alone].sum() / at_once) / 3600
    frame.attrs["hours"] = float(hours)
    return frame


def measured_seconds(benchmarks: Path, rule: str) -> list[float]:
    """Seconds of the jobs of a rule that Snakemake has timed."""
    name, _, method = rule.partition(" ")
    files = [benchmarks / f"{name}.tsv", *(benchmarks / name).glob(f"{method}*.tsv" if method else "*.tsv")]
    if method:  # "inclora" is not "inclora-ivg"
        files = [f for f in files if f.name.startswith(f"{method}-order")]
    return [seconds for file in files if (seconds := _seconds(file)) is not None]


def _seconds(benchmark: Path) -> float | None:
    """None for a file that is missing or damaged: it would only have made the estimate better."""
    try:
        return float(pd.read_csv(benchmark, sep="\t")["s"].iloc[0])
    except (OSError, ValueError, LookupError):  # pandas' own errors are ValueErrors
        return None


def as_text(frame: pd.DataFrame, shape: Shape, device: Device, at_once: int) -> str:
    """The table and the line that sums it up."""
    shown = pd.DataFrame(
        {
            "rule": frame["rule"],
            "jobs": frame["jobs"],
            "tokens": [f"{t:,.0f}" if t else "–" for t in frame["tokens"]],
            "TFLOP": [f"{f / 1e12:,.1f}" if f else "–" for f in frame["flops"]],
            "hours": [f"{s / 3600:.2f}" for s in frame["seconds"]],
            "from": frame["source"],
            "memory GiB": [f"{m / 1024:.1f}" for m in frame["memory_mib"]],
        }
    )
    lines = [shown.to_string(index=False), ""]
    lines.append(
        f"{frame['jobs'].sum()} jobs, {frame['flops'].sum() / 1e12:,.0f} TFLOP, about "
        f"{frame.attrs['hours']:.2g} hours with {at_once} jobs at a time on {device.name} "
        f"({device.rate / 1e12:.3g} TFLOP/s, of which {device.share:.0%} are assumed to be reached); "
        f"{frame['disk_bytes'].sum() / 1e9:.2g} GB on disk; {shape.parameters / 1e9:.3g} billion weights"
    )
    if shape.bytes > device.memory:
        devices = int(-(-shape.bytes * 1.2 // device.memory))
        lines.append(
            f"The weights ({shape.bytes / 1e9:.0f} GB) need {devices} such devices for one job (model.gpus)."
        )
    return "\n".join(lines) + "\n"


def read_shape(config: Config, name: str | None):
    """(shape, tokenizer or None): of a model known by ``name``, or of the experiment's own snapshot."""
    dtype = config.model.dtype
    snapshot = Path(config.results) / "models" / config.model.name
    if name:
        return known_shape(name, dtype), None
    if (snapshot / "config.json").exists():
        content = json.loads((snapshot / "config.json").read_text(encoding="utf-8"))
        return shape_from(content, dtype), load_tokenizer(snapshot)
    known = next((known for known in KNOWN if config.model.name.startswith(known)), None)
    if known is None:
        raise UserError(
            f"model.name = '{config.model.name}': its size is known once prepare_model has run; until then "
            f"give --model with one of {', '.join(sorted(KNOWN))}"
        )
    return known_shape(known, dtype), None


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="estimate", description=__doc__.splitlines()[0])
    parser.add_argument("config", nargs="+", help="configuration files, later ones on top of earlier ones")
    parser.add_argument("--model", choices=sorted(KNOWN), help="take the shape of this model")
    parser.add_argument("--dtype", choices=sorted(BYTES), help="in place of model.dtype")
    parser.add_argument(
        "--device", choices=sorted(DEVICES), help="default: one core of this computer, measured"
    )
    parser.add_argument("--at-once", type=int, help="jobs at a time (default: all cores, or one GPU)")
    parser.add_argument("--fresh", action="store_true", help="ignore the run times of earlier jobs")
    options = parser.parse_args(arguments)
    try:
        config = load_config(options.config)
        if options.dtype:
            config = config.model_copy(
                update={"model": config.model.model_copy(update={"dtype": options.dtype})}
            )
        shape, tokenizer = read_shape(config, options.model)
        device = DEVICES[options.device] if options.device else measured_cpu(shape)
        at_once = options.at_once or (1 if options.device else os.cpu_count() or 1)
        own = not (options.fresh or options.model or options.device)
        frame = estimate(
            config, shape, device, at_once, Path(config.results) / "benchmarks" if own else None, tokenizer
        )
        print(as_text(frame, shape, device, at_once), end="")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

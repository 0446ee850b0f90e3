"""What an experiment will cost, before it starts: ``anamnesis estimate [CONFIG ...]``.

Operations are counted from the configuration and the model's shape; hours follow from one rate, measured on
this computer or assumed for a named device. Rules that have run already count with the seconds they took.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from anamnesis.commands import reported
from anamnesis.config.load import load_experiment
from anamnesis.config.models import Config
from anamnesis.core.errors import UserError
from anamnesis.estimate.demands import CORES_ALONE
from anamnesis.estimate.jobs import FIGURES, jobs_table
from anamnesis.estimate.lengths import published_sets
from anamnesis.estimate.memory import GPUS_PER_MACHINE, MOST_GPUS, devices_needed
from anamnesis.estimate.shape import BYTES, Shape, known_models, known_shape, shape_of
from anamnesis.models.loading import load_tokenizer

CPU_SHARE, GPU_SHARE = 0.6, 0.3  # of the matrix rate that jobs reach: measured on two cores; assumed
START_SECONDS = 5.5  # interpreter and libraries, on one core that others share
FORK_SECONDS = 0.8  # the same of a fork (``core.forked_jobs``)
READ_RATE = 1e9  # bytes of weights per second
FIXED = {"prepare_model": 34.0, "prepare_task": 0.7, "rank_heads": 0.7, "tabulate_results": 3.0, FIGURES: 4.0}
"""Seconds of jobs without a model, in the default experiment on two cores."""


@dataclass(frozen=True)
class Device:
    """``rate``: floating-point operations per second of its matrix units in the model's type; ``share``: how
    much of it jobs reach; ``memory``: bytes.
    """

    name: str
    rate: float
    memory: float = float("inf")
    share: float = GPU_SHARE

    @property
    def is_gpu(self) -> bool:
        return self.memory < float("inf")


DEVICES = {
    name: Device(name, rate, memory)
    for name, rate, memory in (
        ("a100-40gb", 312e12, 40e9),
        ("a100-80gb", 312e12, 80e9),
        ("h100-80gb", 989e12, 80e9),
        ("h200-141gb", 989e12, 141e9),
        ("l40s-48gb", 362e12, 48e9),
        ("rtx-4090", 165e12, 24e9),
    )
}
"""bfloat16 rates from the makers' data sheets, without sparsity."""


def measured_cpu(shape: Shape, seconds: float = 1.0) -> Device:
    """One core of this computer, on a matrix product of the model's own size."""
    import torch
    from torch.utils.benchmark import Timer

    from anamnesis.models.products import linear

    x, w = torch.randn(256, shape.hidden), torch.randn(shape.intermediate, shape.hidden)
    product = Timer("linear(x, w)", globals={"linear": linear, "x": x, "w": w})
    spent = product.blocked_autorange(min_run_time=seconds).mean  # on one thread, by default
    return Device("this computer, one core", 2 * x.numel() * w.shape[0] / spent, share=CPU_SHARE)


def estimate(
    config: Config,
    shape: Shape,
    device: Device,
    at_once: int,
    benchmarks: Path | None = None,
    tokenizer=None,
) -> pd.DataFrame:
    """The rows of ``jobs_table`` with seconds (of all jobs of a rule, one after another), row (of those that
    wait for each other) and source ("counted" or "measured", in ``benchmarks``).

    Attributes: ``hours`` that the experiment takes at least, with ``at_once`` jobs at a time; ``chain``, the
    hours of the longest row of jobs that wait for each other, which is ``hours`` where many jobs may run;
    ``assumed``, as there.
    """
    frame = jobs_table(config, shape, tokenizer, device.is_gpu)
    start = START_SECONDS if device.is_gpu else FORK_SECONDS
    fixed = frame["rule"].map(FIXED).fillna(start + shape.bytes / READ_RATE)
    # the tuning has several cores, as nothing else can run meanwhile
    cores = 1 if device.is_gpu else frame["rule"].map({"tune_model": min(at_once, CORES_ALONE)}).fillna(1)
    rate = device.rate * device.share * cores
    frame["seconds"] = frame["jobs"] * fixed + frame["flops"] / rate
    frame["row"] = frame["in_a_row"] * fixed + frame["longest_flops"] / rate
    frame["source"] = "counted"
    for i, rule in enumerate(frame["rule"]):
        if found := measured_seconds(benchmarks, rule) if benchmarks else []:
            several = frame.loc[i, ["jobs", "in_a_row"]] * (sum(found) / len(found))
            frame.loc[i, ["seconds", "row", "source"]] = [*several, "measured"]
    alone = frame["rule"].isin(["prepare_model", "tune_model"])  # everything waits for them
    shared = frame["seconds"][alone].sum() + frame["seconds"][~alone].sum() / at_once
    chain = longest_chain(frame)
    frame.attrs |= {"hours": max(shared, chain) / 3600, "chain": chain / 3600}
    return frame


def longest_chain(frame: pd.DataFrame) -> float:
    """Seconds of the jobs that wait for each other, on the way through the rules that takes longest.

    ``frame``: rule, after (the rules that it waits for) and row (seconds of its own jobs that do).
    """
    ends: dict[str, float] = {}
    for row in frame.itertuples():  # a rule stands after those it waits for
        ends[row.rule] = row.row + max((ends.get(rule, 0.0) for rule in row.after), default=0.0)
    return max(ends.values())


def measured_seconds(benchmarks: Path, rule: str) -> list[float]:
    """Seconds of the jobs of a rule that have run."""
    name, _, method = rule.partition(" ")
    # "inclora" is not "inclora-ivg"
    pattern = f"{method}-order*.tsv" if method else "*.tsv"
    files = [benchmarks / f"{name}.tsv"] * (not method) + [*(benchmarks / name).glob(pattern)]
    return [seconds for file in files if (seconds := _seconds(file)) is not None]


def _seconds(benchmark: Path) -> float | None:
    """None for a file that is missing or damaged: it would only have made the estimate better."""
    try:
        return float(pd.read_csv(benchmark, sep="\t")["s"].iloc[0])
    except (OSError, ValueError, LookupError):  # pandas' own errors are ValueErrors
        return None


def as_text(frame: pd.DataFrame, shape: Shape, device: Device, at_once: int) -> str:
    """The table, the line that sums it up, and where the time and some lengths come from."""
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
    lines = [
        f"{frame['jobs'].sum()} jobs, {frame['flops'].sum() / 1e12:,.0f} TFLOP, about "
        f"{frame.attrs['hours']:.2g} hours with {at_once} jobs at a time on {device.name} "
        f"({device.rate / 1e12:.3g} TFLOP/s, of which {device.share:.0%} are assumed to be reached); "
        f"{frame['disk_bytes'].sum() / 1e9:.2g} GB on disk; {shape.parameters / 1e9:.3g} billion weights"
    ]
    if frame.attrs["hours"] == frame.attrs["chain"]:
        lines.append("These are the hours of jobs that wait for each other: more at a time are not faster.")
    if assumed := ", ".join(frame.attrs["assumed"]):
        lines.append(f"Not here yet, so with the lengths of a table (docs/explanation/cost.md): {assumed}.")
    return "\n".join([shown.to_string(index=False), "", *lines]) + "\n"


def fit(config: Config, shape: Shape, device: Device) -> str:
    """What one job takes of devices, where it does not fit on one; else nothing."""
    keys = {"model.gpus": False, "training.processes": True}
    counts = {key: devices_needed(config, shape, device.memory, training) for key, training in keys.items()}
    if all(count == 1 for count in counts.values()):
        return ""
    words = ", ".join(f"{key} {count or f'above {MOST_GPUS}'}" for key, count in counts.items())
    if any(count is None or count > GPUS_PER_MACHINE for count in counts.values()):
        words += f"; a job is on one computer, which rarely has more than {GPUS_PER_MACHINE}"
    return f"One job does not fit on one {device.name}: {words} (docs/explanation/cost.md).\n"


def read_shape(config: Config, name: str | None):
    """(shape, tokenizer or None): of a model known by ``name``, or of the experiment's own snapshot."""
    snapshot, own = Path(config.results) / "models" / config.model.name, config.model.name
    if name is None and (snapshot / "config.json").exists():
        return shape_of(snapshot, config.model.dtype), load_tokenizer(snapshot)
    name = name or next((known for known in known_models() if own.startswith(known)), None)
    if name is None:
        raise UserError(
            f"model.name = '{own}': its size is known once prepare_model has run; until then "
            f"give --model with one of {', '.join(sorted(known_models()))}"
        )
    return known_shape(name, config.model.dtype), None


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="anamnesis estimate", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("config", nargs="*", help="files or names of experiments, later ones on top")
    parser.add_argument("--model", choices=sorted(known_models()), help="take the shape of this model")
    parser.add_argument("--dtype", choices=sorted(BYTES), help="in place of model.dtype")
    parser.add_argument(
        "--device", choices=sorted(DEVICES), help="default: one core of this computer, measured"
    )
    parser.add_argument("--at-once", type=int, help="jobs at a time (default: all cores, or one GPU)")
    parser.add_argument("--fresh", action="store_true", help="ignore the run times of earlier jobs")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    return reported(lambda: _estimated(options))


def _estimated(options: argparse.Namespace) -> None:
    config = load_experiment(options.config, further_tasks=published_sets())
    model = config.model.model_copy(update={"dtype": options.dtype or config.model.dtype})
    config = config.model_copy(update={"model": model})
    shape, tokenizer = read_shape(config, options.model)
    device = DEVICES[options.device] if options.device else measured_cpu(shape)
    at_once = options.at_once or (1 if options.device else os.cpu_count() or 1)
    own = not (options.fresh or options.model or options.device)
    benchmarks = Path(config.results) / "benchmarks" if own else None
    frame = estimate(config, shape, device, at_once, benchmarks, tokenizer)
    print(as_text(frame, shape, device, at_once) + fit(config, shape, device), end="")


if __name__ == "__main__":
    raise SystemExit(main())

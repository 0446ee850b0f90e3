"""What an experiment takes on other models, from shapes alone: the tables of the pages on cost and models.

``python benchmarks/_cost_tables.py CONFIG ... [--write FILE]`` prints them as Markdown, or puts each into a
file between the lines ``<!-- NAME -->`` and ``<!-- end of NAME -->``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from _common import UserError, put, write_text

from anamnesis.commands.estimate import DEVICES, READ_RATE, START_SECONDS, Device, estimate
from anamnesis.config.load import load_config
from anamnesis.config.models import Config
from anamnesis.estimate.lengths import published_sets
from anamnesis.estimate.memory import GPUS_PER_MACHINE, MOST_GPUS, devices_needed
from anamnesis.estimate.shape import Shape, known_models, known_shape
from anamnesis.estimate.work import Work
from anamnesis.stats.printed import markdown_table

FIRST = "llama-2-7b"
"""The model whose table shows every rule."""
MODELS = (FIRST, "llama-3.1-8b", "mistral-7b", "llama-3.1-70b", "llama-4-scout", "llama-4-maverick")
PAPERS = MODELS[:3]
"""Models of the size that the papers train."""
LONGEST = ("average_activations", "sweep_heads", "train_stage inclora-ivg", "evaluate_stage")
TRAINING = "train_stage"
PROMPT = 500  # tokens of the prompt that is swept


def rules_table(config: Config, shape: Shape, device: Device, at_once: int) -> pd.DataFrame:
    """One row per rule that needs the model, and their sum."""
    frame = estimate(config, shape, device, at_once)
    shown = frame[frame["tokens"] > 0]
    rows = [
        {
            "rule": row.rule,
            "jobs": row.jobs,
            "tokens": f"{row.tokens:,.0f}",
            "TFLOP": f"{row.flops / 1e12:,.0f}",
            "hours": f"{row.seconds / 3600:.2f}",
            "memory, GiB": f"{row.memory_mib / 1024:.0f}",
        }
        for row in shown.itertuples()
    ]
    jobs, hours = (
        f"{frame['jobs'].sum()} with the small ones",
        f"{frame.attrs['hours']:.1f} with {at_once} jobs at a time",
    )
    total = {"jobs": jobs, "TFLOP": f"{frame['flops'].sum() / 1e12:,.0f}", "hours": hours}
    return pd.DataFrame([*rows, {"rule": "**all**", "tokens": "", **total, "memory, GiB": ""}])


def shapes_table(shapes: dict[str, Shape]) -> pd.DataFrame:
    """The sizes that the others follow from."""
    rows = []
    for name, shape in shapes.items():
        known = known_models()[name]
        experts, step = known.get("num_local_experts"), known.get("interleave_moe_layer_step")
        dense = step and shape.layers - shape.layers // step
        width = known.get("intermediate_size_mlp")
        rows.append(
            {
                "model": name,
                "layers": f"{shape.layers}, {dense} of them dense" if dense else shape.layers,
                "heads (keys)": f"{shape.heads} ({shape.kv_heads})",
                "hidden": shape.hidden,
                "experts": f"{experts}, 1 and a shared one used" if experts else "–",
                "feed-forward": f"{shape.intermediate}, {width} dense" if dense else shape.intermediate,
                "vocabulary": shape.vocabulary,
                "weights, billion": f"{shape.parameters / 1e9:.1f}",
                "of which a token goes through": f"{(shape.active + shape.head) / 1e9:.1f}",
            }
        )
    return pd.DataFrame(rows)


def models_table(config: Config, shapes: dict[str, Shape], device: Device) -> pd.DataFrame:
    """One row per model: what one job fills, and what the whole experiment takes, one job after another."""
    rows = []
    for name, shape in shapes.items():
        frame = estimate(config, shape, device, 1)
        counts = [devices_needed(config, shape, device.memory, training) for training in (False, True)]
        sweep = swept(shape).flops(shape)
        spent = sweep / device.rate / device.share
        rows.append(
            {
                "model": name,
                "weights, GB": f"{shape.bytes / 1e9:.0f}",
                "memory, GiB": _memory(frame),
                "devices a job": f"{_shown(counts[0])}, training {_shown(counts[1])}",
                "TFLOP": f"{frame['flops'].sum() / 1e12:,.0f}",
                **_hours(frame, shape, device, counts),
                f"sweep of {PROMPT} tokens": f"{sweep / 1e12:.0f} TFLOP, {spent:.1f} s",
            }
        )
    return pd.DataFrame(rows)


def jobs_table(config: Config, shapes: dict[str, Shape], device: Device) -> pd.DataFrame:
    """One row per model: minutes of one job of the rules that take longest, its loading included."""
    rows = []
    for name, shape in shapes.items():
        frame = estimate(config, shape, device, 1)
        minutes = dict(zip(frame["rule"], frame["seconds"] / frame["jobs"] / 60, strict=True))
        rows.append(
            {
                "model": name,
                "memory, GiB": _memory(frame),
                **{f"{rule}, min": f"{minutes[rule]:.1f}" for rule in LONGEST},
                "all, hours": f"{frame.attrs['hours']:.1f}",
            }
        )
    return pd.DataFrame(rows)


def _memory(frame: pd.DataFrame) -> str:
    """What jobs ask the scheduler for."""
    asked = dict(zip(frame["rule"], frame["memory_mib"] / 1024, strict=True))
    return f"{asked['evaluate_base']:.0f}, training {max(m for r, m in asked.items() if TRAINING in r):.0f}"


def _shown(devices: int | None) -> str:
    if devices is None:
        return f"above {MOST_GPUS}"
    return str(devices) if devices <= GPUS_PER_MACHINE else f"{devices}: above {GPUS_PER_MACHINE}"


def _hours(frame: pd.DataFrame, shape: Shape, device: Device, counts: Sequence[int | None]) -> dict[str, str]:
    """Hours of the jobs, one after another, and of all devices that they hold; none where a job needs more of
    them than one computer has.

    Where a model lies over several devices one works at a time. In training all work, each on its part, but
    the processes read the model one after another.
    """
    if any(count is None or count > GPUS_PER_MACHINE for count in counts):
        return {"hours": "–", "device hours": "–"}
    everywhere, processes = counts
    training, reading = frame["rule"].str.contains(TRAINING), shape.bytes / READ_RATE
    worked = frame["flops"] / device.rate / device.share / processes
    divided = frame["jobs"] * (START_SECONDS + processes * reading) + worked
    seconds = frame["seconds"].where(~training, divided)
    runs = frame["tokens"] > 0  # of the other jobs, one reads the model and none computes with it for long
    read = (frame["jobs"] * training.map({False: 1, True: processes}))[runs].sum() * reading
    held = (seconds * training.map({False: everywhere, True: processes}))[runs].sum()
    return {
        "hours": f"{seconds.sum() / 3600:.0f}, {read / 3600:.0f} of them loading",
        "device hours": f"{held / 3600:.0f}",
    }


def swept(shape: Shape) -> Work:
    """One prompt of ``PROMPT`` tokens, with a row for each head of each layer, born there."""
    born = shape.heads * (shape.layers + 1) / 2
    return Work(PROMPT + born, shape.layers * shape.heads + 1, PROMPT)


def tables(config: Config, device: Device, at_once: int) -> dict[str, str]:
    """The Markdown of every table by its name. ``at_once``: jobs at a time in the first."""
    shapes = {name: known_shape(name, config.model.dtype) for name in MODELS}
    found = {
        "rules": rules_table(config, shapes[FIRST], device, at_once),
        "models": models_table(config, shapes, device),
        "shapes": shapes_table(shapes),
        "jobs": jobs_table(config, {name: shapes[name] for name in PAPERS}, device),
    }
    return {
        name: markdown_table(list(frame.columns), frame.astype(str).values.tolist()) + "\n"
        for name, frame in found.items()
    }


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="_cost_tables.py", description=__doc__.splitlines()[0])
    parser.add_argument("config", nargs="+", help="configuration files, later ones on top of earlier ones")
    parser.add_argument("--device", choices=sorted(DEVICES), default="a100-80gb", help="default: %(default)s")
    parser.add_argument("--at-once", type=int, default=4, help="jobs at a time (default: %(default)s)")
    parser.add_argument("--write", type=Path, help="a file with lines for tables to be put between")
    options = parser.parse_args(arguments)
    try:
        config = load_config(options.config, further_tasks=published_sets())
        made = tables(config, DEVICES[options.device], options.at_once)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if options.write is None:
        print("\n".join(made.values()), end="")
        return 0
    text = options.write.read_text(encoding="utf-8")
    for name, block in made.items():
        text = put(text, name, block)
    write_text(options.write, text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

"""What an experiment takes on other models, from shapes alone: the tables of docs/cost.md and docs/models.md.

``python -m anamnesis.compute.points CONFIG ... [--write FILE]`` prints them as Markdown, or puts each into a
file between the lines ``<!-- NAME -->`` and ``<!-- end of NAME -->``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from anamnesis.artifacts import write_text
from anamnesis.compute.demands import devices_needed, memory_mib
from anamnesis.compute.estimate import DEVICES, READ_RATE, Device, estimate
from anamnesis.compute.shape import Shape, known_shape
from anamnesis.compute.work import Work
from anamnesis.config.load import load_config
from anamnesis.config.models import Config
from anamnesis.errors import UserError
from anamnesis.evaluation.summary import markdown_table

FIRST = "llama-2-7b"
"""The model whose table shows every rule."""
MODELS = (FIRST, "llama-3.1-8b", "mistral-7b", "llama-3.1-70b", "llama-4-scout", "llama-4-maverick")
PAPERS = MODELS[:3]
"""Models of the size that the papers train."""
LONGEST = ("average_activations", "sweep_heads", "train_stage inclora-ivg", "evaluate_stage")
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
    rows = [
        {
            "model": name,
            "layers": f"{shape.layers}, {shape.dense_layers} of them dense"
            if shape.dense_layers
            else shape.layers,
            "heads (keys)": f"{shape.heads} ({shape.kv_heads})",
            "hidden": shape.hidden,
            "experts": f"{shape.experts}, {shape.chosen} and a shared one used" if shape.experts else "–",
            "feed-forward": f"{shape.intermediate}, {shape.dense} dense"
            if shape.dense_layers
            else shape.intermediate,
            "vocabulary": shape.vocabulary,
            "weights, billion": f"{shape.parameters / 1e9:.1f}",
            "of which a token goes through": f"{(shape.active + shape.head) / 1e9:.1f}",
        }
        for name, shape in shapes.items()
    ]
    return pd.DataFrame(rows)


def models_table(config: Config, shapes: dict[str, Shape], device: Device) -> pd.DataFrame:
    """One row per model: what one job fills, and what the whole experiment takes, one job after another."""
    rows, tokens = [], config.evaluation.batch_tokens
    for name, shape in shapes.items():
        frame = estimate(config, shape, device, 1)
        counts = [devices_needed(shape, device.memory, tokens, training) for training in (False, True)]
        memory = [memory_mib(shape, tokens, training) / 1024 for training in (False, True)]
        sweep = swept(shape).flops(shape)
        spent = sweep / device.rate / device.share
        rows.append(
            {
                "model": name,
                "weights, GB": f"{shape.bytes / 1e9:.0f}",
                "memory, GiB": f"{memory[0]:.0f}, training {memory[1]:.0f}",
                "devices a job": f"{counts[0]}, training {counts[1]}"
                if counts[0] != counts[1]
                else counts[0],
                "TFLOP": f"{frame['flops'].sum() / 1e12:,.0f}",
                "hours": f"{frame.attrs['hours']:.1f}, {_loading(frame, shape):.1f} of them loading",
                "device hours": f"{_device_hours(frame, counts):.0f}",
                f"sweep of {PROMPT} tokens": f"{sweep / 1e12:.0f} TFLOP, {spent:.1f} s",
            }
        )
    return pd.DataFrame(rows)


def jobs_table(config: Config, shapes: dict[str, Shape], device: Device) -> pd.DataFrame:
    """One row per model: minutes of one job of the rules that take longest, its loading included."""
    rows, tokens = [], config.evaluation.batch_tokens
    for name, shape in shapes.items():
        frame = estimate(config, shape, device, 1)
        minutes = dict(zip(frame["rule"], frame["seconds"] / frame["jobs"] / 60, strict=True))
        memory = [memory_mib(shape, tokens, training) / 1024 for training in (False, True)]
        rows.append(
            {
                "model": name,
                "memory, GiB": f"{memory[0]:.0f}, training {memory[1]:.0f}",
                **{f"{rule}, min": f"{minutes[rule]:.1f}" for rule in LONGEST},
                "all, hours": f"{frame.attrs['hours']:.1f}",
            }
        )
    return pd.DataFrame(rows)


def _loading(frame: pd.DataFrame, shape: Shape) -> float:
    """Hours in which jobs read the model's weights."""
    return frame["jobs"][frame["memory_mib"] > shape.bytes / 2**20].sum() * shape.bytes / READ_RATE / 3600


def _device_hours(frame: pd.DataFrame, counts: Sequence[int]) -> float:
    """Hours of all devices that jobs hold. Of several, one works at a time: layers follow each other."""
    training = frame["rule"].str.startswith("train_stage ")
    seconds = frame["seconds"].where(frame["tokens"] > 0, 0.0)
    return float((seconds * training.map({False: counts[0], True: counts[1]})).sum()) / 3600


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


def put(text: str, name: str, block: str) -> str:
    """``text`` with ``block`` between the lines that name it, where it has them."""
    before, begin, rest = text.partition(f"<!-- {name} -->\n")
    _, end, after = rest.partition(f"<!-- end of {name} -->\n")
    return f"{before}{begin}{block}{end}{after}" if end else text


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="points", description=__doc__.splitlines()[0])
    parser.add_argument("config", nargs="+", help="configuration files, later ones on top of earlier ones")
    parser.add_argument("--device", choices=sorted(DEVICES), default="a100-80gb", help="default: %(default)s")
    parser.add_argument("--at-once", type=int, default=4, help="jobs at a time (default: %(default)s)")
    parser.add_argument("--write", type=Path, help="a file with lines for tables to be put between")
    options = parser.parse_args(arguments)
    try:
        made = tables(load_config(options.config), DEVICES[options.device], options.at_once)
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

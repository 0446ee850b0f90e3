"""What the benchmarks share: arguments, models and tasks, interleaved timing, the table of results."""

from __future__ import annotations

import argparse
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd
import torch
import transformers

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY / "workflow"))

from anamnesis.core.artifacts import write_json, write_text  # noqa: E402
from anamnesis.core.errors import UserError  # noqa: E402
from anamnesis.data.preparation import load_task  # noqa: E402
from anamnesis.engine.prefix_engine import PrefixEngine  # noqa: E402
from anamnesis.models.loading import load_frozen, load_model  # noqa: E402

DEFAULT_MODEL = REPOSITORY / "results" / "models" / "smollm2-135m-instruct"


@dataclass(frozen=True)
class Line:
    """One measured quantity and the bar it is held against; ``bar`` None where there is none."""

    what: str
    value: float
    unit: str
    bar: float | None = None
    at_least: bool = True
    note: str = ""

    @property
    def passed(self) -> bool | None:
        if self.bar is None:
            return None
        return self.value >= self.bar if self.at_least else self.value <= self.bar


def put(text: str, name: str, block: str) -> str:
    """``text`` with ``block`` between the lines that name it, where it has them."""
    before, begin, rest = text.partition(f"<!-- {name} -->\n")
    _, end, after = rest.partition(f"<!-- end of {name} -->\n")
    return f"{before}{begin}{block}{end}{after}" if end else text


def parser(description: str) -> argparse.ArgumentParser:
    """A parser with the options that every benchmark has."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument(
        "--model", type=Path, default=DEFAULT_MODEL, help="model snapshot (default: %(default)s)"
    )
    made.add_argument(
        "--data", type=Path, help="folder with <benchmark>/<task>.parquet (default: built-in data)"
    )
    made.add_argument("--threads", type=int, default=2, help="threads of torch (default: %(default)s)")
    made.add_argument(
        "--rounds", type=int, default=3, help="times both sides are timed (default: %(default)s)"
    )
    made.add_argument(
        "--seed", type=int, default=0, help="seed of prompts and samples (default: %(default)s)"
    )
    made.add_argument("--output", type=Path, help="also write the results here: a .json or .csv file")
    return made


def start(options: argparse.Namespace):
    """(model in float32 on the CPU, tokenizer), with as many threads as asked for."""
    if options.output is not None and options.output.suffix not in (".json", ".csv"):
        raise UserError(f"--output is '{options.output}': give a file that ends in .json or .csv")
    for name in ("threads", "rounds"):
        if getattr(options, name) < 1:
            raise UserError(f"--{name} is {getattr(options, name)}: give 1 or more")
    torch.set_num_threads(options.threads)
    transformers.utils.logging.disable_progress_bar()
    model, tokenizer = load_model(options.model, device="cpu")
    load = Path("/proc/loadavg")
    busy = f", load average {load.read_text().split()[0]}" if load.exists() else ""
    print(f"{options.model.name} · torch {torch.__version__} · {options.threads} threads{busy}", flush=True)
    return model, tokenizer


def measuring_engine(options: argparse.Namespace) -> PrefixEngine:
    """Our side where nothing is trained: the same weights, loaded as the workflow loads them to measure."""
    return PrefixEngine(load_frozen(options.model, device="cpu")[0])


def task_frame(name: str, options: argparse.Namespace, test_examples: int) -> pd.DataFrame:
    """The uniform frame of a task, from ``--data`` or built in."""
    sizes = {"train_examples": 400, "validation_examples": 100, "test_examples": test_examples}
    return load_task(name, {"root": options.data, "tasks": {}, **sizes}, options.seed)


def seconds(work: Callable[[], object]) -> float:
    """Wall-clock time of one call."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def interleaved(sides: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median seconds of each side. Sides take turns, in reverse every other round: busy spells hit all."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds):
        for name in list(sides)[:: 1 if number % 2 == 0 else -1]:
            times[name].append(seconds(sides[name]))
    return {name: statistics.median(values) for name, values in times.items()}


def show(lines: list[Line]) -> None:
    """Print a table of results."""
    width = max(len(line.what) for line in lines)
    for line in lines:
        bar = "" if line.bar is None else f"bar {'>=' if line.at_least else '<='} {line.bar:g}"
        verdict = {None: "", True: "reached", False: "MISSED"}[line.passed]
        cells = f"{line.what:<{width}}  {line.value:>9.3g} {line.unit:<8} {bar:<12} {verdict:<8} {line.note}"
        print(cells.rstrip(), flush=True)


def write(lines: list[Line], output: Path, **machine) -> None:
    """Write results as CSV, or as JSON with what they were measured on."""
    rows = [asdict(line) | {"passed": line.passed} for line in lines]
    if output.suffix == ".csv":
        write_text(output, pd.DataFrame(rows).to_csv(index=False))
        return
    versions = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "threads": torch.get_num_threads(),
    }
    write_json(output, {"machine": versions | machine, "results": rows})


def report(lines: list[Line], output: Path | None) -> int:
    """Print the table, write it if asked to, and return the exit status: 1 when a bar is missed."""
    show(lines)
    if output is not None:
        write(lines, output)
        print(f"written: {output}")
    return int(any(line.passed is False for line in lines))


def main(run: Callable[[], int]) -> None:
    """Exit with the status of ``run``, or with 2 and one line for what a user can put right."""
    try:
        sys.exit(run())
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)

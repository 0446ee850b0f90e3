"""Table 1 from evaluation records of ``--rows`` rows: the memory and the time of the job that reads them all.

The records are made up: columns, lengths of texts and kinds of answers are those of the workflow, and there
is a file for each stage of each chain. The job runs in a process of its own, whose largest resident memory
counts.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from _common import REPOSITORY, Line, main, report, seconds

from anamnesis.core.artifacts import write_parquet

TASKS, HELD_OUT = ("first_task", "second_task"), "held_out_task"
OUTPUTS = ("curves", "measures", "table", "comparisons", "held_out", "markdown", "latex")
CHOICES = 4
MOST_MIB = 400.0

JOB = """
import json, re, sys
from tabulate_results import main
main(**json.load(open(sys.argv[1])))
# not the maximum in getrusage, which is that of the process before exec where that was larger
print(re.search(r"VmHWM:\\s*(\\d+)", open("/proc/self/status").read())[1])
"""


def records(rows: int, seed: int) -> pd.DataFrame:
    """Evaluation records of one checkpoint: three sets, zero-shot and few-shot, ranked choices."""
    rng = np.random.default_rng(seed)
    sets = np.array([*TASKS, HELD_OUT])[np.arange(rows) % 3]
    words = np.array([f"answer number {i}" for i in range(1000)])
    scores = rng.normal(size=(rows, CHOICES))
    prediction, target = rng.integers(0, len(words), (2, rows))
    return pd.DataFrame(
        {
            "set": sets,
            "role": np.where(sets == HELD_OUT, "held_out", "train_task"),
            "form": "instruction",
            "shots": np.arange(rows) // 3 % 2 * 10,
            "example_id": [f"test-{i}" for i in range(rows)],
            "prompt_sha256": [rng.bytes(32).hex() for _ in range(rows)],
            "prediction": words[prediction],
            "target": words[target],
            "score": rng.integers(0, 2, rows).astype(float),
            "metric": "accuracy",
            "scorer": "sum",
            "empty": False,
            "choice_logprobs": list(scores),
            "choice_scores": list(scores),
        }
    )


def write_records(folder: Path, rows: int, chains: int, different: int = 1) -> dict:
    """Records of ``rows`` rows in all, and the arguments of the job that reads them.

    Making them takes longer than reading them: only ``different`` files are, the others are their copies.
    """
    files = 1 + len(TASKS) * chains
    for i in range(files):
        path = folder / f"{i}.parquet"
        if i < different:
            write_parquet(path, records(-(-rows // files), i))
        else:
            path.write_bytes((folder / f"{i % different}.parquet").read_bytes())
    return {
        "evaluations": [
            str(folder / f"{i}.parquet") for c in range(chains) for i in (0, 2 * c + 1, 2 * c + 2)
        ],
        "reference": str(REPOSITORY / "workflow" / "reference" / "paper_table1.csv"),
        "chains": [{"method": "inclora", "order": 1, "seed": seed} for seed in range(chains)],
        "orders": [list(TASKS)],
        "compared": [],
        "statistics": {"bootstrap_resamples": 100, "confidence": 0.95},
        "answers": [str(folder / f"answer_{name}.csv") for name in ("changes", "shares", "counts")],
        **{name: str(folder / name) for name in OUTPUTS},
    }


def tabulate(folder: Path, arguments: dict) -> int:
    """Largest resident memory of the job, in MiB."""
    (folder / "arguments.json").write_text(json.dumps(arguments))
    paths = [REPOSITORY / "workflow", REPOSITORY / "workflow" / "scripts"]
    code = f"import sys; sys.path[:0] = {list(map(str, paths))!r}\n{JOB}"
    command = [sys.executable, "-c", code, str(folder / "arguments.json")]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout) // 1024


def measure(rows: int, chains: int) -> Line:
    with tempfile.TemporaryDirectory() as name:
        arguments, peak = write_records(Path(name), rows, chains), []
        spent = seconds(lambda: peak.append(tabulate(Path(name), arguments)))
        size = sum(file.stat().st_size for file in Path(name).glob("*.parquet")) / 1e9
    note = f"{spent:.0f} s, {size:.2g} GB in {1 + len(TASKS) * chains} files"
    return Line(f"peak memory, {rows:,} rows", peak[0], "MiB", MOST_MIB, at_least=False, note=note)


def run() -> int:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--rows", type=int, default=10_000_000, help="of records (default: %(default)s)")
    options.add_argument("--chains", type=int, default=100, help="two files each (default: %(default)s)")
    options.add_argument("--output", type=Path, help="also write the results here: a .json or .csv file")
    options = options.parse_args()
    lines = [measure(options.rows // share, options.chains) for share in (4, 1)]
    return report(lines, options.output)


if __name__ == "__main__":
    main(run)

"""The record in the JSON file of a result: what made it, with which versions, where, and at what cost."""

from __future__ import annotations

import os
import platform
import resource
import subprocess
import time
from importlib import metadata
from pathlib import Path

from anamnesis.core.artifacts import write_text

# the model runs in child processes where training.processes is above 1
WHO_RAN = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
PACKAGES = (
    "anamnesis",
    "torch",
    "transformers",
    "peft",
    "accelerate",
    "snakemake",
    "pandas",
    "pyarrow",
    "numpy",
    "scipy",
)


def provenance(started: float, **facts) -> dict:
    """The record that stands beside a result: what made it, from what, where, and at what cost.

    ``started``: time.time() at the beginning of the job.
    """
    return {
        "schema": 1,
        "versions": {name: _version(name) for name in PACKAGES},
        "python": platform.python_version(),
        "machine": {"platform": platform.platform(), "cpus": os.cpu_count()},
        "git_commit": _git_commit(),
        "seconds": round(time.time() - started, 2),
        "peak_memory_mib": round(_peak_memory()),
        **facts,
    }


def write_costs(path: str | Path, started: float) -> None:
    """Write what the job has cost until now as a table of Snakemake's ``benchmark`` directive has it, which
    would not see a job that runs in a fork: seconds, the processor's seconds, and MiB.
    """
    used = [resource.getrusage(who) for who in WHO_RAN]
    processor = sum(part.ru_utime + part.ru_stime for part in used)
    row = f"{time.time() - started:.4f}\t{processor:.2f}\t{_peak_memory():.2f}"
    write_text(path, f"s\tcpu_time\tmax_rss\n{row}\n")


def _peak_memory() -> float:
    """Peak resident memory (MiB) of this process, or of the largest it has started."""
    return max(resource.getrusage(who).ru_maxrss for who in WHO_RAN) / 1024  # which counts KiB on Linux


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _git_commit() -> str | None:
    """The commit this code runs from, with ``+`` when files differ from it; None outside a checkout."""
    # --exclude: `describe` would write a tag and a distance in place of the commit
    here = Path(__file__).parent
    command = ["git", "-C", str(here), "describe", "--always", "--abbrev=40", "--dirty=+", "--exclude=*"]
    # GIT_DIR, which hooks of another repository set, would have git describe that one
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    return done.stdout.strip() or None

"""A number depends on the configuration and the data only: no byte of a result on the environment."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from anamnesis.core.artifacts import digest_file
from anamnesis.core.integrity import ENDING

FOLDER = Path(__file__).parents[1] / "hostile"
LIBRARY = Path(__file__).parents[2] / "workflow"
HOSTILE = {
    # accelerate and transformers' trainer
    "ACCELERATE_MIXED_PRECISION": "bf16",
    "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "4",
    "ACCELERATE_DYNAMO_BACKEND": "eager",
    "ACCELERATE_USE_FSDP": "true",
    "FSDP_CPU_RAM_EFFICIENT_LOADING": "true",
    "ACCELERATE_USE_DEEPSPEED": "true",
    "ACCELERATE_TORCH_DEVICE": "meta",
    "ACCELERATE_LOG_LEVEL": "CRITICAL",
    "RANK": "1",
    "LOCAL_RANK": "1",
    "WORLD_SIZE": "2",
    "MASTER_ADDR": "localhost",
    "MASTER_PORT": "1",
    # transformers
    "TRANSFORMERS_VERBOSITY": "critical",
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
    "USE_HUB_KERNELS": "yes",
    # torch and below
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE": "1",
    "NVIDIA_TF32_OVERRIDE": "1",
    "ONEDNN_DEFAULT_FPMATH_MODE": "BF16",
    "DNNL_DEFAULT_FPMATH_MODE": "BF16",
    "ATEN_CPU_CAPABILITY": "default",
    "MKL_CBWR": "COMPATIBLE",
    "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
    "NPY_DISABLE_CPU_FEATURES": "AVX2 AVX512F",
    "PYTORCH_JIT": "0",
    "CUBLAS_WORKSPACE_CONFIG": ":16:8",
    # Python, locale, time
    "PYTHONHASHSEED": "7",
    "PYTHONWARNINGS": "error",
    "PYTHONUTF8": "0",
    "PYTHONCOERCECLOCALE": "0",
    "LC_ALL": "C",
    "TZ": "Pacific/Kiritimati",
    "OMP_NUM_THREADS": "2",
    "HOSTILE_TORCH": "1",
}
ACCELERATE_FILE = "compute_environment: LOCAL_MACHINE\nmixed_precision: bf16\ndistributed_type: 'NO'\n"


def surrounded(folder: Path, clean: dict[str, str]) -> dict[str, str]:
    """The hostile environment, with a file that accelerate reads of its own accord in ``folder``."""
    file = folder / "accelerate" / "default_config.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(ACCELERATE_FILE)
    path = os.pathsep.join([str(FOLDER), clean["PYTHONPATH"]])
    return {**clean, **HOSTILE, "HF_HOME": str(folder), "PYTHONPATH": path}


def results(snapshot: Path, folder: Path, environment: dict[str, str]) -> dict[str, str]:
    """The digest of every file that the jobs write in ``folder``, without logs and notes."""
    folder.mkdir()
    command = [sys.executable, str(FOLDER / "jobs.py"), str(snapshot)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    files = [path for path in folder.rglob("*") if path.is_file() and not path.name.endswith(ENDING)]
    found = {str(path.relative_to(folder)): digest_file(path) for path in files}
    return {name: digest for name, digest in found.items() if not name.startswith(("logs", "benchmarks"))}


def test_jobs_in_a_hostile_environment_have_the_same_results(snapshot, tmp_path):
    """Activations, a sweep, stages of guided training, one of them in two processes, and an evaluation."""
    clean = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    clean |= {"PYTHONPATH": str(LIBRARY), "PYTHONHASHSEED": "1"}
    expected = results(snapshot, tmp_path / "clean", clean)
    found = results(snapshot, tmp_path / "hostile", surrounded(tmp_path / "around", clean))
    assert len(expected) > 15
    assert found == expected
    log = (tmp_path / "hostile/logs/task.log").read_text(encoding="utf-8")  # of the first job of the process
    for ignored in (
        "ACCELERATE_MIXED_PRECISION=bf16",
        "MKL_CBWR=COMPATIBLE",
        "default dtype = torch.float64",
    ):
        assert ignored in log

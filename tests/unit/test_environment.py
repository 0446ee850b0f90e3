"""Variables of the environment and switches of torch that a job ignores."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch

from anamnesis.core.environment import ignore_environment, ignored_variables
from anamnesis.core.errors import UserError
from anamnesis.core.job import _begin
from anamnesis.core.processes import run_together
from anamnesis.training.trainer_options import trainer_arguments

HOSTILE = Path(__file__).parents[1] / "hostile"  # whose sitecustomize sets ACCELERATE_MIXED_PRECISION
IGNORED = (
    "ACCELERATE_MIXED_PRECISION", "ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "ACCELERATE_DYNAMO_BACKEND",
    "FSDP_OFFLOAD_PARAMS", "PARALLELISM_CONFIG_TP_SIZE", "XLA_USE_BF16", "SM_HP_MP_PARAMETERS", "RANK",
    "LOCAL_RANK", "WORLD_SIZE", "OMPI_COMM_WORLD_SIZE", "TRANSFORMERS_SDPA_FORCE_GQA", "USE_HUB_KERNELS",
    "TRANSFORMERS_VERBOSITY", "TRANSFORMERS_NO_ADVISORY_WARNINGS", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
    "NVIDIA_TF32_OVERRIDE", "ONEDNN_DEFAULT_FPMATH_MODE", "DNNL_DEFAULT_FPMATH_MODE", "MKL_CBWR",
    "ATEN_CPU_CAPABILITY", "CUBLAS_WORKSPACE_CONFIG", "PYTORCH_TUNABLEOP_ENABLED", "TORCHINDUCTOR_FREEZING",
    "CUBLAS_EMULATE_SINGLE_PRECISION", "HF_HUB_VERBOSITY",
)  # fmt: skip
KEPT = (
    "PATH", "HOME", "HF_HOME", "HF_TOKEN", "HF_ENDPOINT", "HF_HUB_OFFLINE", "CUDA_VISIBLE_DEVICES",
    "SLURM_JOB_ID", "TMPDIR", "PYTORCH_CUDA_ALLOC_CONF", "TORCH_NCCL_BLOCKING_WAIT", "NCCL_SOCKET_IFNAME",
    "MKL_THREADING_LAYER", "RANKING", "CI", "SMALL", "TORCH_HOME", "TORCHINDUCTOR_CACHE_DIR",
    "PYTORCH_VERSION", "CUDNN_PATH",
)  # fmt: skip


@pytest.fixture
def bare(monkeypatch):
    """An environment without variables of ours, as a job's is when it begins."""
    for name in ignored_variables():
        monkeypatch.delenv(name)
    return monkeypatch


def test_what_could_change_a_number_goes_and_is_logged(bare, caplog):
    for name in (*IGNORED, *KEPT):
        bare.setenv(name, "7")
    assert set(ignored_variables()) == set(IGNORED)
    with caplog.at_level(logging.INFO):
        ignore_environment()
    assert not set(IGNORED) & set(os.environ)
    assert set(KEPT) <= set(os.environ)
    assert all(f"{name}=7" in caplog.text for name in IGNORED)
    caplog.clear()
    ignore_environment()
    assert not caplog.records


SWITCHES = {
    "default dtype": (torch.get_default_dtype, lambda: torch.set_default_dtype(torch.float64)),
    "default device": (torch.get_default_device, lambda: torch.set_default_device("meta")),
    "matmul precision": (
        torch.get_float32_matmul_precision,
        lambda: torch.set_float32_matmul_precision("medium"),
    ),
    "matmul on the CPU": (
        lambda: torch.backends.mkldnn.matmul.fp32_precision in ("none", "ieee"),
        lambda: setattr(torch.backends.mkldnn.matmul, "fp32_precision", "bf16"),
    ),
    "TF32 of matmul": (
        lambda: torch.backends.cuda.matmul.allow_tf32,
        lambda: setattr(torch.backends.cuda.matmul, "allow_tf32", True),
    ),
    "TF32 of cudnn": (
        lambda: torch.backends.cudnn.allow_tf32,
        lambda: setattr(torch.backends.cudnn, "allow_tf32", False),
    ),
    "autocast": (
        lambda: torch.is_autocast_enabled("cpu"),
        lambda: torch.set_autocast_enabled("cpu", True),
    ),
    "deterministic": (
        torch.are_deterministic_algorithms_enabled,
        lambda: torch.use_deterministic_algorithms(True),
    ),
    "gradients": (torch.is_grad_enabled, lambda: torch.set_grad_enabled(False)),
}


@pytest.mark.parametrize("name", SWITCHES)
def test_torch_has_its_own_switches_again(bare, caplog, name):
    read, change = SWITCHES[name]
    fresh = read()
    try:
        change()
        assert read() != fresh
        with caplog.at_level(logging.INFO):
            ignore_environment()
        assert read() == fresh
        assert "torch" in caplog.text
    finally:
        ignore_environment()


def test_a_tiny_number_is_not_flushed_to_zero(bare):
    tiny = torch.tensor([1e-40])
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor does not flush")
    ignore_environment()
    assert float(tiny * 0.5) > 0


def seen_by_a_process() -> tuple:
    return os.environ.get("ACCELERATE_MIXED_PRECISION"), os.environ.get("RANK"), os.environ["WORLD_SIZE"]


def test_further_processes_of_a_job_ignore_it_too(bare):
    """What starts with Python sets it anew in each of them."""
    bare.setenv("PYTHONPATH", os.pathsep.join([str(HOSTILE), os.environ.get("PYTHONPATH", "")]))
    assert run_together(2, seen_by_a_process, {}) == ("bf16", "0", "2")
    assert run_together(2, seen_by_a_process, {}, partial(_begin, None)) == (None, "0", "2")


@pytest.mark.parametrize("name", ["ACCELERATE_MIXED_PRECISION", "ACCELERATE_GRADIENT_ACCUMULATION_STEPS"])
def test_training_outside_of_a_job_does_not_obey_the_environment(bare, tmp_path, name):
    settings = {"optimizer": "adamw_torch", "scheduler": "constant", "gradient_accumulation": 1}
    settings |= {"learning_rate": 0.1, "weight_decay": 0.0, "warmup_ratio": 0.0, "checkpoint_steps": 9}
    call = partial(trainer_arguments, settings, 0, tmp_path, torch.device("cpu"))
    assert call().mixed_precision == "no"
    bare.setenv(name, "4")
    with pytest.raises(UserError, match=rf"environment variable {name}=4 would have a say .* unset it"):
        call()


@pytest.mark.parametrize("name", ["estimate", "watch"])
def test_commands_print_where_the_terminal_knows_ascii_only(pytestconfig, tmp_path, name):
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(pytestconfig.rootpath / "workflow")}
    environment |= {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    command = [sys.executable, "-m", f"anamnesis.commands.{name}", str(pytestconfig.rootpath / "config.yaml")]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "?" in done.stdout
    assert "Traceback" not in done.stderr

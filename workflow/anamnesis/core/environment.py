"""What the libraries would take from the environment instead of the configuration: ignored in a job.

accelerate, transformers and torch read variables that change numbers (ACCELERATE_MIXED_PRECISION trains in
another precision), and torch keeps switches that anything run at Python's start may set (sitecustomize). A
job begins without either, before the libraries look.
"""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import suppress
from functools import partial, reduce
from operator import attrgetter

from anamnesis.core.errors import UserError
from anamnesis.core.hub_access import keep_off

IGNORED = (
    # accelerate and transformers' trainer: precision, sharding, accumulation, clipping, compilation, device
    "ACCELERATE_", "FSDP_", "DEEPSPEED_", "MEGATRON_LM_", "PARALLELISM_CONFIG_", "USE_TORCH_XLA", "XLA_",
    "PJRT_", "TPU_", "SM_", "FP8_", "BNB_",
    # transformers: backends, attention, kernels from a hub
    "TRANSFORMERS_", "USE_TORCH", "USE_TF", "USE_FLAX", "USE_JAX", "USE_HUB_KERNELS", "TRUST_REMOTE_CODE",
    "FLASH_ATTENTION_",
    # torch and the libraries below it: TF32 and other precisions, algorithms, instruction sets
    "PYTORCH_", "TORCH_", "TORCHDYNAMO_", "TORCHINDUCTOR_", "ATEN_", "NVIDIA_TF32_OVERRIDE",
    "CUBLAS_", "CUBLASLT_", "CUDNN_", "DNNL_", "ONEDNN_", "MKL_", "NPY_", "OPENBLAS_",
    # launchers of several processes: what training.processes says is what runs
    "RANK", "LOCAL_RANK", "GROUP_RANK", "NODE_RANK", "ROLE_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE",
    "MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_", "OMPI_COMM_WORLD_", "PMI_", "MV2_COMM_WORLD_",
    "SMDATAPARALLEL_", "ANAMNESIS_RENDEZVOUS",
    # what would keep warnings from the log
    "HF_HUB_VERBOSITY", "DATASETS_VERBOSITY",
)  # fmt: skip
"""Variables a job does without. A name that ends with an underscore stands for all that begin with it."""

KEPT = (
    "PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_NVML_BASED_CUDA_CHECK",  # memory
    "TORCH_NCCL_", "TORCH_CPP_LOG_LEVEL", "TORCH_SHOW_CPP_STACKTRACES", "TORCH_LOGS", "TRANSFORMERS_OFFLINE",
    "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS",  # a job sets them itself
    "MKL_THREADING_LAYER", "MKL_INTERFACE_LAYER", "MKL_SERVICE_FORCE_INTEL",  # some installations need them
)  # fmt: skip
"""Of these, what a machine may need and no number depends on."""

OF_INSTALLATIONS = ("_PATH", "_HOME", "_DIR", "_ROOT", "_VERSION")
"""Ends of names that say where something is, or which: containers set many."""

FRESH_BACKENDS = {
    "cuda.matmul.allow_tf32": False,
    "cuda.matmul.allow_fp16_reduced_precision_reduction": True,
    "cuda.matmul.allow_bf16_reduced_precision_reduction": True,
    "cuda.matmul.allow_fp16_accumulation": False,
    "cudnn.allow_tf32": True,
    "cudnn.benchmark": False,
    "cudnn.deterministic": False,
    "mkldnn.matmul.fp32_precision": "none",
    "mkldnn.enabled": True,
    "cudnn.enabled": True,
}
"""Switches in torch.backends, as a fresh import has them."""

ACCELERATE = ("ACCELERATE_", "FSDP_", "PARALLELISM_CONFIG_", "XLA_", "USE_TORCH_XLA", "PJRT_", "TPU_", "SM_")
"""Those that the trainer reads."""

log = logging.getLogger(__name__)


def check_python() -> None:
    """Raise UserError for a Python without docstrings, which transformers reads as it is imported."""
    if sys.flags.optimize > 1:
        raise UserError(
            "Python leaves out docstrings (PYTHONOPTIMIZE=2, or -OO), and transformers cannot be imported "
            "without: unset PYTHONOPTIMIZE, or set it to 1"
        )


def ignored_variables() -> dict[str, str]:
    """The variables of the environment that a job ignores, with their values."""
    return {
        name: value
        for name, value in sorted(os.environ.items())
        if _named(name, IGNORED) and not _named(name, KEPT) and not name.endswith(OF_INSTALLATIONS)
    }


def check_environment(*patterns: str) -> None:
    """Raise UserError where a variable that would change numbers is set. In a job it no longer is."""
    for name, value in ignored_variables().items():
        if _named(name, patterns):
            raise UserError(
                f"the environment variable {name}={value} would have a say in training: unset it (jobs of "
                "the workflow ignore it)"
            )


def ignore_environment() -> None:
    """Remove what could change a number from the environment, and from torch if it is already imported; log
    what was there. Call it before the libraries are imported.
    """
    ignored = ignored_variables()
    for name in ignored:
        del os.environ[name]
    changed = list(_reset_torch())
    if ignored or changed:
        text = ", ".join([*(f"{name}={value}" for name, value in ignored.items()), *changed])
        log.info("ignored, as only the configuration has a say in a result: %s", text)


def set_up_libraries(threads: int) -> None:
    """Let the libraries have only what the configuration says, as many threads as the scheduler gave, and no
    hub access. Call it before they are imported.
    """
    ignore_environment()
    # OpenMP and MKL read these once, when torch is loaded
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(threads)
    if torch := sys.modules.get("torch"):  # imported when Python started, or before a fork
        torch.set_num_threads(threads)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    keep_off()


def _named(name: str, patterns: tuple[str, ...]) -> bool:
    return any(name.startswith(p) if p.endswith("_") else name == p for p in patterns)


def _reset_torch() -> Iterator[str]:
    """Set torch's switches as a fresh import has them; yields what was otherwise."""
    torch = sys.modules.get("torch")
    if torch is None:
        return
    for name, (read, write, fresh) in {**_attributes(torch), **_functions(torch)}.items():
        # other versions lack some; some are announced to get new names
        with suppress(AttributeError), warnings.catch_warnings(action="ignore"):
            try:
                now = read()
            except RuntimeError:  # torch: set partly under an old name, partly under a new one
                now = "a mixture"
            if now != fresh:
                write(fresh)
                yield f"{name} = {now}"
    torch.set_flush_denormal(False)


def _functions(torch) -> dict[str, tuple]:
    """What functions of torch switch: name -> (read, write, value after a fresh import)."""
    return {
        "torch default dtype": (torch.get_default_dtype, torch.set_default_dtype, torch.float32),
        "torch default device": (
            lambda: str(torch.get_default_device()),
            lambda _: torch.set_default_device(None),
            "cpu",
        ),
        "torch float32 matmul precision": (
            torch.get_float32_matmul_precision,
            torch.set_float32_matmul_precision,
            "highest",
        ),
        "torch deterministic algorithms": (
            torch.are_deterministic_algorithms_enabled,
            torch.use_deterministic_algorithms,
            False,
        ),
        "torch gradients": (torch.is_grad_enabled, torch.set_grad_enabled, True),
        **{
            f"torch autocast on {device}": (
                partial(torch.is_autocast_enabled, device),
                partial(torch.set_autocast_enabled, device),
                False,
            )
            for device in ("cpu", "cuda")
        },
    }


def _attributes(torch) -> dict[str, tuple]:
    """The same of what torch keeps as attributes."""
    return {
        f"torch.backends.{name}": (
            partial(_get, torch.backends, name),
            partial(_set, torch.backends, name),
            fresh,
        )
        for name, fresh in FRESH_BACKENDS.items()
    }


def _get(owner, path: str):
    return attrgetter(path)(owner)


def _set(owner, path: str, value) -> None:
    *parents, last = path.split(".")
    setattr(reduce(getattr, parents, owner), last, value)

"""What a job asks of the scheduler: memory, time and GPUs, from the model's size and the experiment's.

The memory was fitted to a 135M-parameter model in float32. The time is a generous upper bound, as schedulers
end jobs that ask for too little: every prompt counts as if it were as long as may be, on a slow device.
"""

from __future__ import annotations

from pathlib import Path

from anamnesis.compute.devices import present
from anamnesis.compute.shape import BYTES, Shape, shape_of
from anamnesis.config.models import Config
from anamnesis.config.variants import resolve

PROCESS_MIB = 800  # an interpreter with torch and transformers
MARGIN = 1.4
SLOW_CPU, SLOW_GPU = 3e10, 2e13  # floating-point operations per second that a core, a GPU reaches at least
LEAST_MINUTES, MOST_MINUTES = 20, 7 * 24 * 60


def gpus_per_process(device: str) -> int:
    """1 for ``model.device`` cuda, and for auto where this computer has a GPU, else 0."""
    return int(device.startswith("cuda") or (device == "auto" and bool(present())))


def memory_mib(shape: Shape, batch_tokens: int, training: bool = False) -> int:
    """Resident memory of a job on this model, in MiB; on a GPU the same again in the device's memory.

    Inference holds one layer's activations and the scores of a batch's rows, training those of all layers
    and a teacher's hidden states.
    """
    return int(PROCESS_MIB + MARGIN * (shape.bytes + activations(shape, batch_tokens, training)) / 2**20)


def activations(shape: Shape, batch_tokens: int, training: bool) -> float:
    """Bytes beside the weights."""
    width = (8 * shape.hidden + 4 * shape.width) * BYTES[shape.dtype] / 4
    per_token = 2 * shape.vocabulary + (shape.layers if training else 2) * width
    return batch_tokens * per_token


def memory_of_processes(one: int, processes: int, divided: bool) -> int:
    """Resident memory, in MiB, of processes that each take ``one``; where they divide a model among their
    GPUs it is in the computer's memory once.
    """
    return one + (processes - 1) * (PROCESS_MIB if divided else one)


def minutes(config: Config, rule: str, shape: Shape, gpus: int) -> int:
    """Time limit of a job of ``rule``."""
    epochs = max([config.training.epochs, *config.training.task_epochs.values()])
    prompts = {
        "average_activations": config.vectors.activation_prompts,
        "sweep_heads": 4 * config.vectors.effect_prompts,
        "build_vectors": config.vectors.optimised.steps * config.vectors.optimised.batch_size,
        "intervene": 4 * config.interventions.examples,
        "train_stage": 6 * config.data.train_examples * epochs,
        "watch_stage": 6 * config.data.train_examples * epochs
        + 60 * (config.analyses.within_stage.points + 1) * config.analyses.effect_prompts,
        "measure_robustness": sum(config.analyses.robustness.prompts)
        * config.analyses.robustness.draws
        * (1 + 4 * config.analyses.robustness.steps),
        "evaluate": 4
        * config.data.test_examples
        * (len(config.suite.orders[0]) + len(config.suite.held_out)),
        "trace": 40 * config.analyses.examples + 8 * config.vectors.activation_prompts,
    }[rule]
    flops = prompts * config.training.max_input_tokens * 2 * shape.active
    wanted = LEAST_MINUTES + flops / (SLOW_GPU if gpus else SLOW_CPU) / 60
    return int(min(MOST_MINUTES, wanted))


class Demands:
    """Resources of a rule as functions that Snakemake calls; what a retry asks for grows with ``attempt``.

    Until the snapshot exists the model's size is not known, which Snakemake shows as <TBD>.
    """

    def __init__(self, config: Config, snapshot: Path):
        self.config, self.snapshot = config, snapshot
        self.gpus = gpus_per_process(config.model.device) * config.model.gpus

    def memory(self, training: bool = False, divided: bool = False):
        """``divided``: among the processes of a training stage."""

        def mem_mb(wildcards, attempt):
            one = memory_mib(self._shape(), self.config.evaluation.batch_tokens, training)
            processes = self.processes(wildcards) if divided else 1
            return attempt * memory_of_processes(one, processes, self.config.model.gpus > 1)

        return mem_mb

    def processes(self, wildcards) -> int:
        """Of a training stage."""
        return resolve(self.config, wildcards.method).training["processes"]

    def training_gpus(self, wildcards) -> int:
        """One for each process."""
        return gpus_per_process(self.config.model.device) * self.processes(wildcards)

    def time(self, rule: str):
        def runtime(wildcards, attempt):
            return min(MOST_MINUTES, attempt * minutes(self.config, rule, self._shape(), self.gpus))

        return runtime

    def _shape(self) -> Shape:
        return shape_of(self.snapshot, self.config.model.dtype)

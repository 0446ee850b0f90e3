"""What a job asks of the scheduler: memory, time, cores and GPUs, from the model's size and the experiment's.

The memory follows what tensors hold, as measured on a 135M-parameter model in float32. The time is a generous
upper bound, as schedulers end jobs that ask for too little: every prompt counts as if it were as long as may
be, on a slow device.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from math import ceil
from pathlib import Path

from anamnesis.config.models import Config
from anamnesis.config.variants import resolve
from anamnesis.core.artifacts import read_parquet
from anamnesis.core.devices import present
from anamnesis.models.shape import BYTES, Shape, shape_of
from anamnesis.training.tuning_settings import tuning_tasks

PROCESS_MIB = 700  # an interpreter with torch and transformers
MARGIN = 1.2
SLOW_CPU, SLOW_GPU = 3e10, 2e13  # floating-point operations per second that a core, a GPU reaches at least
LEAST_MINUTES, MOST_MINUTES = 20, 7 * 24 * 60
CORES_ALONE = 4  # of a job that all others wait for
MIB_OF_A_CORE, MOST_CORES = 4096, 16  # computers have about so much memory for each of their cores
BYTES_OF_A_TOKEN = 3  # of text, at least; longer examples than memory was asked for are rare then


def gpus_per_process(device: str) -> int:
    """1 for ``model.device`` cuda, and for auto where this computer has a GPU, else 0."""
    return int(device.startswith("cuda") or (device == "auto" and bool(present())))


def memory_mib(shape: Shape, tokens: int, training: bool = False, on_gpu: bool = False) -> int:
    """Resident memory of a job on this model whose batches have so many tokens, in MiB. With a GPU that is
    where the activations are, and the weights pass through the computer's memory.
    """
    beside = 0.0 if on_gpu else activations(shape, tokens, training)
    return int(PROCESS_MIB + MARGIN * (shape.bytes + beside) / 2**20)


def activations(shape: Shape, tokens: int, training: bool) -> float:
    """Bytes beside the weights: the scores of a row in float32 for every token, at most; keys and values of
    all layers, and what is at work in two of them; in training what all layers keep for the way back.
    """
    layer = (6 * shape.hidden + 3 * shape.width) * BYTES[shape.dtype]
    cache = 2 * shape.layers * shape.kv_heads * shape.head_dim * BYTES[shape.dtype]
    return tokens * (4 * shape.vocabulary + (shape.layers * layer if training else 2 * layer + cache))


@lru_cache
def longest_example(task: Path, written: int) -> int:
    """Tokens of the longest prompt and answer of a prepared task, guessed from their bytes. ``written``: the
    time of the file, which a run may make anew.
    """
    frame = read_parquet(task, ["instruction", "input", "target"])
    texts = frame["instruction"].fillna("") + frame["input"] + frame["target"]
    return ceil(max(len(text.encode()) for text in texts) / BYTES_OF_A_TOKEN) + 16  # labels, separators


def memory_of_processes(one: int, processes: int, divided: bool) -> int:
    """Resident memory, in MiB, of processes that each take ``one``; where they divide a model among their
    GPUs it is in the computer's memory once.
    """
    return one + (processes - 1) * (PROCESS_MIB if divided else one)


def minutes(config: Config, rule: str, shape: Shape, gpus: int) -> int:
    """Time limit of a job of ``rule``."""
    epochs = max([config.training.epochs, *config.training.task_epochs.values()])
    examples = max([config.data.train_examples, *config.data.task_examples.values()])
    prompts = {
        "tune_model": len(tuning_tasks(config))
        * (6 * config.tuning.examples * config.tuning.epochs + 2 * config.data.validation_examples),
        "average_activations": config.vectors.activation_prompts,
        "sweep_heads": 4 * config.vectors.effect_prompts,
        "build_vectors": config.vectors.optimised.steps * config.vectors.optimised.batch_size,
        "intervene": 8 * config.interventions.examples,  # validation and test, zero-shot and few-shot
        "recover": 8
        * config.interventions.examples
        * len(config.interventions.sets)
        * len(config.training.seeds),
        "train_stage": 6 * examples * epochs,
        "watch_stage": 6 * examples * epochs
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

    def memory(self, training: bool = False):
        """Of a job with batches of ``evaluation.batch_tokens``. A retry gets half as much again: it may have
        failed for another reason, and must not ask for more than there is.
        """

        def mem_mb(wildcards, attempt):
            return ceil(self._one(self.config.evaluation.batch_tokens, training) * (1 + attempt) / 2)

        return mem_mb

    def memory_of_stage(self, wildcards, input, attempt) -> int:
        """Of a training stage with all its processes."""
        method = resolve(self.config, wildcards.method)
        settings, task = method.training, Path(input["task"])
        tokens = settings["batch_size"] * self._length(task, settings)
        if method.needs.past:
            # prompts of other tasks, in the same pass or, flashbacks, in one of their own
            past = input.get("past") or []
            others = [self._length(Path(p), settings) for p in ([past] if isinstance(past, str) else past)]
            count = method.settings.get("flashbacks_per_step", settings["batch_size"])
            tokens += max([tokens, *(count * length for length in others)])
        one = max(self._one(tokens, training=True), self._one(self.config.evaluation.batch_tokens))
        together = memory_of_processes(one, settings["processes"], self.config.model.gpus > 1)
        return ceil(together * (1 + attempt) / 2)

    def memory_of_tuning(self, wildcards, input, attempt) -> int:
        """Of the tuning of the prepared model, in batches of examples of all its tasks."""
        missing = next((task for task in input["tasks"] if not Path(task).exists()), None)
        if missing:
            raise FileNotFoundError(2, "not prepared yet", str(missing))
        longest = max(longest_example(Path(task), Path(task).stat().st_mtime_ns) for task in input["tasks"])
        tokens = self.config.tuning.batch_size * min(self.config.training.max_input_tokens, longest)
        one = max(self._one(tokens, training=True), self._one(self.config.evaluation.batch_tokens))
        return ceil(one * (1 + attempt) / 2)

    def threads_alone(self, wildcards) -> int:
        """Cores of a job that all others wait for: more than one's share, as the others are idle."""
        return 1 if self.gpus else max(CORES_ALONE, self.threads(wildcards))

    def _length(self, task: Path, training: Mapping) -> int:
        """Tokens of the longest example of a prepared task, cut as in training."""
        if not task.exists():
            raise FileNotFoundError(2, "not prepared yet", str(task))
        return min(training["max_input_tokens"], longest_example(task, task.stat().st_mtime_ns))

    def threads(self, wildcards) -> int:
        """Cores of a job: on a CPU one for every 4 GiB of its memory, so that as many jobs as there are cores
        for have memory, too. One until the snapshot exists.
        """
        if self.gpus or not (self.snapshot / "config.json").exists():
            return 1
        return max(1, min(MOST_CORES, self._one(self.config.evaluation.batch_tokens) // MIB_OF_A_CORE))

    def threads_of_stage(self, wildcards) -> int:
        """Of a training stage with all its processes."""
        return self.processes(wildcards) * self.threads(wildcards)

    def processes(self, wildcards) -> int:
        """Of a training stage."""
        return resolve(self.config, wildcards.method).training["processes"]

    def training_gpus(self, wildcards) -> int:
        """One for each process."""
        return gpus_per_process(self.config.model.device) * self.processes(wildcards)

    def time(self, rule: str, resumes: bool = False):
        """``resumes``: a retry goes on where the job was ended, and has its time anew."""

        def runtime(wildcards, attempt):
            wanted = minutes(self.config, rule, self._shape(), self.gpus)
            return min(MOST_MINUTES, wanted if resumes else attempt * wanted)

        return runtime

    def _one(self, tokens: int, training: bool = False) -> int:
        """MiB of one process."""
        return memory_mib(self._shape(), tokens, training, on_gpu=self.gpus > 0)

    def _shape(self) -> Shape:
        return shape_of(self.snapshot, self.config.model.dtype)

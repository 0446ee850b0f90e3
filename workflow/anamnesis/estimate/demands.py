"""What a job asks of the scheduler: memory, time, cores and GPUs. Snakemake imports this at its start, and
the jobs of a cluster again: no torch, no pandas.

The time is a generous upper bound, as schedulers end jobs that ask for too little: every prompt counts as
the longest possible, on a slow device.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import ceil
from pathlib import Path

from anamnesis.config.models import Config
from anamnesis.config.variants import resolve
from anamnesis.core.artifacts import read_parquet
from anamnesis.core.devices import present
from anamnesis.estimate.memory import memory_mib, memory_of_processes, preparation_mib
from anamnesis.estimate.shape import Shape, shape_of
from anamnesis.training.tuning_settings import tuning_tasks

SLOW_CPU, SLOW_GPU = 3e10, 2e13  # floating-point operations per second that a core, a GPU reaches at least
LEAST_MINUTES, MOST_MINUTES = 20, 7 * 24 * 60
CORES_ALONE = 4  # of a job that all others wait for
MIB_PER_CORE, MOST_CORES = 4096, 16  # machines have about so much memory for each of their cores
DOCUMENTS = 10_000  # of a task of lm-evaluation-harness: about as many as hellaswag has
BYTES_PER_TOKEN = 3  # of text, at least: then few examples are longer than the memory asked for allows


def gpus_per_process(device: str) -> int:
    """1 for ``model.device`` cuda, and for auto where this computer has a GPU, else 0."""
    return int(device.startswith("cuda") or (device == "auto" and bool(present())))


@lru_cache
def longest_example(task: Path, written: int) -> int:
    """Tokens of the longest prompt and answer of a prepared task, guessed from their bytes. ``written``: the
    time of the file, which a run may make anew.
    """
    frame = read_parquet(task, ["instruction", "input", "target"])
    texts = frame["instruction"].fillna("") + frame["input"] + frame["target"]
    return ceil(max(len(text.encode()) for text in texts) / BYTES_PER_TOKEN) + 16  # labels, separators


def longest_input(tasks: Sequence[str | Path], limit: int) -> int:
    """Tokens of the longest example of some prepared tasks, at most ``limit``; 0 of none."""
    files = [Path(task) for task in tasks]
    if missing := next((file for file in files if not file.exists()), None):
        raise FileNotFoundError(2, "not prepared yet", str(missing))  # Snakemake waits for it
    return min(limit, max((longest_example(file, file.stat().st_mtime_ns) for file in files), default=0))


def prompts_of(config: Config, rule: str) -> int:
    """Forward passes of one prompt, at most, in a job of ``rule``; backward passes count as two."""
    vectors, analyses, interventions = config.vectors, config.analyses, config.interventions
    stage = max([config.data.train_examples, *config.data.task_examples.values()])
    stage *= 6 * max([config.training.epochs, *config.training.task_epochs.values()])
    within, robustness = analyses.within_stage, analyses.robustness
    tuned = 6 * config.tuning.examples * config.tuning.epochs + 2 * config.data.validation_examples
    documents = config.evaluation.harness_examples or DOCUMENTS
    intervened = 8 * interventions.examples  # validation and test, zero-shot and few-shot
    return {
        "tune_model": len(tuning_tasks(config)) * tuned,
        "average_activations": vectors.activation_prompts,
        "sweep_heads": 4 * vectors.effect_prompts,
        "build_vectors": vectors.optimised.steps * vectors.optimised.batch_size,
        "intervene": intervened,
        "recover": intervened * len(interventions.sets),
        "train_stage": stage,
        "watch_stage": stage + 60 * (within.points + 1) * analyses.effect_prompts,
        "measure_robustness": sum(robustness.prompts) * robustness.draws * (1 + 4 * robustness.steps),
        "evaluate": 4
        * config.data.test_examples
        * (len(config.suite.orders[0]) + len(config.suite.held_out)),
        "evaluate_harness": 4 * documents * len(config.evaluation.harness),
        "trace": 40 * analyses.examples + 8 * vectors.activation_prompts,
    }[rule]


def minutes(config: Config, rule: str, shape: Shape, gpus: int) -> int:
    """Time limit of a job of ``rule``."""
    flops = prompts_of(config, rule) * config.training.max_input_tokens * 2 * shape.active
    wanted = LEAST_MINUTES + flops / (SLOW_GPU if gpus else SLOW_CPU) / 60
    return int(min(MOST_MINUTES, wanted))


class Demands:
    """Resources of a rule as functions that Snakemake calls.

    Until the snapshot exists the model's size is not known, which Snakemake shows as <TBD>. A retry asks for
    half as much memory again: it may have failed for another reason, and must not ask for more than there is.
    """

    def __init__(self, config: Config, snapshot: Path):
        self.config, self.snapshot = config, snapshot
        self.gpus = gpus_per_process(config.model.device) * config.model.gpus

    def memory_of_preparation(self, wildcards, attempt) -> int:
        """Of the job that fetches the model, measures it and writes the snapshot."""
        return _retried(preparation_mib(self.config.model.source), attempt)

    def memory(self, training: bool = False):
        """Of a job with batches of ``evaluation.batch_tokens``."""

        def mem_mb(wildcards, attempt):
            return _retried(self._one(self.config.evaluation.batch_tokens, training), attempt)

        return mem_mb

    def memory_of_stage(self, wildcards, input, attempt) -> int:
        """Of a training stage with all its processes."""
        method = resolve(self.config, wildcards.method)
        settings = method.training
        limit = settings["max_input_tokens"]
        tokens = settings["batch_size"] * longest_input([input["task"]], limit)
        if method.needs.past:
            # prompts of other tasks, in the same pass or, flashbacks, in one of their own
            past = input.get("past") or []
            count = method.settings.get("flashbacks_per_step", settings["batch_size"])
            tokens += max(tokens, count * longest_input([past] if isinstance(past, str) else past, limit))
        one = self._trained(tokens)
        together = memory_of_processes(one, settings["processes"], self.config.model.gpus > 1)
        return _retried(together, attempt)

    def memory_of_tuning(self, wildcards, input, attempt) -> int:
        """Of the tuning of the prepared model, in batches of examples of all its tasks."""
        longest = longest_input(input["tasks"], self.config.training.max_input_tokens)
        return _retried(self._trained(self.config.tuning.batch_size * longest), attempt)

    def threads(self, wildcards) -> int:
        """Cores of a job: on a CPU one for every 4 GiB of its memory, so that as many jobs as there are cores
        for have memory, too. One until the snapshot exists.
        """
        if self.gpus or not (self.snapshot / "config.json").exists():
            return 1
        return max(1, min(MOST_CORES, self._one(self.config.evaluation.batch_tokens) // MIB_PER_CORE))

    def threads_alone(self, wildcards) -> int:
        """Cores of a job that all others wait for: more than one's share, as the others are idle."""
        return 1 if self.gpus else max(CORES_ALONE, self.threads(wildcards))

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

    def _trained(self, tokens: int) -> int:
        """MiB of one process that trains on batches of ``tokens`` tokens, and evaluates."""
        return max(self._one(tokens, training=True), self._one(self.config.evaluation.batch_tokens))

    def _one(self, tokens: int, training: bool = False) -> int:
        """MiB of one process."""
        return memory_mib(self._shape(), tokens, training, on_gpu=self.gpus > 0)

    def _shape(self) -> Shape:
        return shape_of(self.snapshot, self.config.model.dtype)


def _retried(mib: int, attempt: int) -> int:
    return ceil(mib * (1 + attempt) / 2)

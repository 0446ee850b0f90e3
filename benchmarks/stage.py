"""A whole training stage, and its peak memory, against transformers' Trainer with PEFT.

Both sides train the same new LoRA adapter on the same examples in the same batches, with the same optimiser
and learning rate, from a model that is loaded to the last step. The other side pads each batch to its longest
row and computes the logits of all positions, which are Trainer's defaults; ``--trl`` adds TRL's SFTTrainer,
which must be installed. Every run has a process of its own, in turns.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from _common import Line, main, parser, report, seconds, start, task_frame
from _steps import BATCH, LORA

from anamnesis.data.prompts import Template
from anamnesis.engine.batches import Batch
from anamnesis.engine.examples import Example, build_examples
from anamnesis.engine.prefix_engine import PrefixEngine
from anamnesis.models.adapters import add_lora
from anamnesis.training.loop import train_stage
from anamnesis.training.objectives import Objective
from anamnesis.training.settings import Training

TASKS = ("news_topic", "choose_last_of_5_spanish")
FASTER, MEMORY = 2.0, 0.8  # bars
RATE = 1e-3
FULL = {
    "per_device_train_batch_size": BATCH, "num_train_epochs": 1, "learning_rate": RATE,
    "optim": "adamw_torch", "lr_scheduler_type": "constant", "save_strategy": "no",
    "report_to": "none", "disable_tqdm": True, "use_cpu": True,
    "remove_unused_columns": False, "dataloader_pin_memory": False,
}  # fmt: skip


def ours(model, examples: Sequence[Example], tokenizer, folder: Path) -> None:
    batches = [Batch(tuple(examples[k : k + BATCH])) for k in range(0, len(examples), BATCH)]
    settings = {**Training().model_dump(mode="json"), "learning_rate": RATE, "checkpoint_steps": 10**6}
    train_stage(PrefixEngine(model), batches, Objective(), settings, 0, folder)


def with_trainer(model, examples: Sequence[Example], tokenizer, folder: Path) -> None:
    from torch.utils.data import SequentialSampler
    from transformers import DataCollatorForSeq2Seq, Trainer, TrainingArguments

    class InOrder(Trainer):
        def _get_train_sampler(self, *_):
            return SequentialSampler(self.train_dataset)

    collate = DataCollatorForSeq2Seq(_padding(tokenizer), padding=True)
    arguments = TrainingArguments(output_dir=str(folder), **FULL)
    rows = [_row(example) for example in examples]
    InOrder(model, arguments, train_dataset=rows, data_collator=collate).train()


def with_trl(model, examples: Sequence[Example], tokenizer, folder: Path) -> None:
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    rows = [{k: v for k, v in _row(example).items() if k != "attention_mask"} for example in examples]
    arguments = SFTConfig(output_dir=str(folder), shuffle_dataset=False, gradient_checkpointing=False, **FULL)
    SFTTrainer(
        model, arguments, train_dataset=Dataset.from_list(rows), processing_class=_padding(tokenizer)
    ).train()


SIDES: Mapping[str, Callable] = {"ours": ours, "Trainer": with_trainer, "TRL": with_trl}


def _padding(tokenizer):
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    return tokenizer


def _row(example: Example) -> dict[str, list[int]]:
    ids = [*example.prompt, *example.answer]
    labels = [*[-100] * len(example.prompt), *example.answer]
    return {"input_ids": ids, "attention_mask": [1] * len(ids), "labels": labels}


def measure(options: argparse.Namespace) -> dict[str, float]:
    """Of one side, in a process of its own: seconds of the stage, and GiB at the peak."""
    model, tokenizer = start(options)
    examples, _ = build_examples(task_frame(options.task, options, 1), tokenizer, Template(), 512)
    tuned = add_lora(model, LORA, 0)
    with tempfile.TemporaryDirectory() as name:
        work = SIDES[options.side]
        spent = seconds(lambda: work(tuned, examples[: options.examples], tokenizer, Path(name)))
    return {"seconds": spent, "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20}


def in_own_process(options: argparse.Namespace, side: str, task: str) -> dict[str, float]:
    command = [sys.executable, __file__, "--side", side, "--task", task, "--model", str(options.model)]
    command += ["--examples", str(options.examples), "--threads", str(options.threads)]
    command += ["--data", str(options.data)] if options.data else []
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{side}, {task}: {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def run() -> int:
    made = parser(__doc__)
    made.add_argument("--examples", type=int, default=160, help="of the stage (default: %(default)s)")
    made.add_argument("--trl", action="store_true", help="against TRL's SFTTrainer as well")
    made.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    made.add_argument("--task", choices=TASKS, help=argparse.SUPPRESS)
    options = made.parse_args()
    if options.side:
        print(json.dumps(measure(options)))
        return 0
    sides, lines = [side for side in SIDES if side != "TRL" or options.trl], []
    for task in TASKS:
        found: dict[str, list[dict]] = {side: [] for side in sides}
        for number in range(options.rounds):
            for side in sides[:: 1 if number % 2 == 0 else -1]:
                found[side].append(in_own_process(options, side, task))
        lines += compared(task, found)
    return report(lines, options.output)


def compared(task: str, found: Mapping[str, Sequence[Mapping[str, float]]]) -> list[Line]:
    """Medians of the other sides against ours."""
    middle = {
        side: {key: statistics.median(run[key] for run in runs) for key in ("seconds", "memory")}
        for side, runs in found.items()
    }
    own = middle.pop("ours")
    lines = [Line(f"{task}: stage, ours", own["seconds"], "s", note=f"peak {own['memory']:.2f} GiB")]
    for side, other in middle.items():
        lines += [
            Line(f"{task}: stage, {side} / ours", other["seconds"] / own["seconds"], "x", FASTER),
            Line(f"{task}: peak memory, ours / {side}", own["memory"] / other["memory"], "x", MEMORY, False),
        ]
    return lines


if __name__ == "__main__":
    main(run)

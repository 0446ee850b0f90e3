"""A training step of every method against one of inclora: same batch of the new task, same adapter rank.

The step is the second stage's, the first with anything to remember: forward, backward and optimiser,
through the real trainer. What a method computes once per stage on all of its examples (predictions of the
model before the stage) is spread over the stage's steps and is part of the time. Each method runs in a
process of its own, in turns with inclora; the peak of its memory is that of a process without inclora.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

import torch
from _common import Line, interleaved, main, parser, report, start, task_frame

from anamnesis.config.methods import Methods
from anamnesis.core.artifacts import write_parquet, write_tensors
from anamnesis.engine.pack import Pack
from anamnesis.models.adapters import save_adapter
from anamnesis.training.build import build
from anamnesis.training.loop import StageTrainer, trainer_of
from anamnesis.training.prepare import prepare_stage
from anamnesis.training.settings import Training
from anamnesis.training.slices import method_names, slice_of
from anamnesis.training.stage_files import StageFiles

TASKS = ("news_topic", "choose_last_of_5_spanish")  # learnt first, learnt now
BARS = {"seqlora": 1.15, "ewc": 1.15, "olora": 1.15, "lwf": 1.6, "replay": None, "fvg": 1.7, "jfa": 2.5}
MEMORY_BAR = 1.5
PROMPTS = {"input_label": "Input:", "output_label": "Output:", "separator": "\n\n"}
MODEL = {"name": "model", "dtype": "float32", "device": "cpu"}


def files_of(folder: Path, options: argparse.Namespace, model) -> dict[str, str]:
    """Tasks, a head ranking and a vector in a folder: what a stage is made from."""
    import pandas as pd

    for name in TASKS:
        write_parquet(folder / f"{name}.parquet", task_frame(name, options, 8))
    layers, heads, hidden = (
        getattr(model.config, n) for n in ("num_hidden_layers", "num_attention_heads", "hidden_size")
    )
    pairs = [(layer, head) for layer in range(layers) for head in range(heads)]
    ranking = pd.DataFrame(pairs, columns=["layer", "head"])
    write_parquet(folder / "heads.parquet", ranking.assign(selected=ranking.index % (len(pairs) // 10) == 0))
    write_tensors(folder / "vector.safetensors", {"theta": torch.randn(hidden)})
    return {"heads": str(folder / "heads.parquet"), "vector": str(folder / "vector.safetensors")}


def stage_of(method: str, number: int, folder: Path, snapshot: Path, files: dict, earlier: list[str]):
    """(method, objective, seconds spent once per stage) of a stage."""
    sections = Methods().model_dump(mode="json")
    settings = {k: v for k, v in sections.get(method, {}).items() if k != "rank"}
    task, past = (str(folder / f"{TASKS[number - 1]}.parquet"), [str(folder / f"{TASKS[0]}.parquet")])
    needs = slice_of(method).needs
    before = past[: number - 1] if needs.past else []
    earlier = [] if needs.adapter == "alone" else earlier
    inputs = StageFiles(str(snapshot), task, earlier, before, **(files if needs.vector else {}))
    training = Training().model_dump(mode="json")
    stage, _ = prepare_stage(inputs, asdict(needs), number, 0, MODEL, training, settings, PROMPTS, 2048)
    begin = time.perf_counter()
    chosen, objective = build(method, stage)
    return chosen, objective, time.perf_counter() - begin


def stepper(method: str, folder: Path, snapshot: Path, files: dict):
    """(a function that makes one step, what a step costs before the stage, batches)."""
    first, _, _ = stage_of(method, 1, folder, snapshot, files, [])
    adapter = folder / f"{method}-stage1"
    adapter.mkdir()
    save_adapter(first.stage.engine.model, adapter, "model", [])
    if state := first.finish():
        write_tensors(adapter / "state.safetensors", state)
    first.save(adapter)
    del first
    chosen, objective, once = stage_of(method, 2, folder, snapshot, files, [str(adapter)])
    batches = [b for b in chosen.batches() if any(e.new for e in b.examples)]
    settings = {**Training().model_dump(mode="json"), "checkpoint_steps": 10**6}
    trainer: StageTrainer = trainer_of(
        chosen.stage.engine, batches, objective, settings, 0, folder / f"{method}-checkpoints"
    )
    trainer.create_optimizer_and_scheduler(len(batches))
    trainer.state.max_steps, trainer.current_gradient_accumulation_steps = len(batches), 1
    fullest = max(batches, key=lambda b: len(b.examples))

    def step() -> None:
        trainer.training_step(trainer.model, {"batch": fullest})
        trainer.optimizer.step()
        trainer.optimizer.zero_grad()

    return step, once / len(batches), fullest


def measure(options: argparse.Namespace) -> dict:
    """In a process of its own: seconds per step of the method (and of inclora), or its peak memory."""
    model, _ = start(options)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = files_of(folder, options, model)
        del model
        torch.manual_seed(0)
        step, once, batch = stepper(options.method, folder, options.model, files)
        if options.memory:
            for _ in range(3):
                step()
            return {"memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20}
        base, _, _ = (
            stepper("inclora", folder, options.model, files) if options.method != "inclora" else (step, 0, 0)
        )
        for work in (step, base):
            work()
        times = interleaved({"method": step, "inclora": base}, options.rounds)
        new = [e for e in batch.examples if e.new]
        return {
            "ratio": (times["method"] + once) / times["inclora"],
            "seconds": times["inclora"],
            "replayed": len(batch.examples) / len(new) - 1,
            "tokens": tokens_of(batch.examples) / tokens_of(new) - 1,
        }


def tokens_of(examples) -> int:
    """Tokens of one forward pass, what prompts begin with counted once."""
    return Pack(tuple(e.tree() for e in examples)).size


def in_own_process(options: argparse.Namespace, method: str, memory: bool) -> dict:
    command = [sys.executable, __file__, "--method", method, "--model", str(options.model)]
    command += ["--threads", str(options.threads), "--rounds", str(options.rounds)]
    command += ["--memory"] * memory + (["--data", str(options.data)] if options.data else [])
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{method}: {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def run() -> int:
    made = parser(__doc__)
    made.set_defaults(rounds=7)
    made.add_argument("--method", choices=method_names(), help="measure this one only, in this process")
    made.add_argument("--memory", action="store_true", help="with --method: peak memory instead of time")
    options = made.parse_args()
    if options.method:
        print(json.dumps(measure(options)))
        return 0
    base, lines = in_own_process(options, "inclora", memory=True)["memory"], []
    for method, bar in BARS.items():
        timed = in_own_process(options, method, memory=False)
        peak = in_own_process(options, method, memory=True)["memory"]
        note = f"inclora {timed['seconds']:.3g} s"
        if method == "replay":  # its share of the tokens: examples of two tasks are not equally long
            bar = 1 + timed["tokens"]
            note += f", {timed['replayed']:.1%} more examples with {timed['tokens']:.1%} more tokens"
        lines.append(Line(f"{method}: step / inclora", timed["ratio"], "x", bar, at_least=False, note=note))
        lines.append(
            Line(
                f"{method}: memory / inclora",
                peak / base,
                "x",
                MEMORY_BAR,
                at_least=False,
                note=f"{peak:.2f} GiB",
            )
        )
        print(
            lines[-2].what, round(lines[-2].value, 3), lines[-1].what, round(lines[-1].value, 3), flush=True
        )
    return report(lines, options.output)


if __name__ == "__main__":
    main(run)

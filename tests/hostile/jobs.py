"""The jobs behind a guided chain of a tiny model, one after another, as Snakemake would start them:
``python jobs.py SNAPSHOT``. Results are in the working folder.
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

from anamnesis.config.load import load_config
from anamnesis.config.variants import resolve
from anamnesis.core.artifacts import write_text
from anamnesis.core.job import run_job

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "workflow" / "scripts"))  # behind packages: one script is called tabulate

TASK = "news_topic"
EXPERIMENT = """
prompts: {input_label: "Entrée:"}
suite: {orders: [[news_topic]], held_out: [capital_choice]}
data: {train_examples: 12, validation_examples: 6, test_examples: 4}
vectors: {shots: 2, activation_prompts: 4, effect_prompts: 4, heads: 3}
interventions: {sets: []}
training: {methods: [seqlora-ivg], batch_size: 4, epochs: 3, lora: {dropout: 0.2}}
guidance: {heads: 3}
evaluation: {shots: 2}
"""


class Jobs:
    """Jobs of one model."""

    def __init__(self, snapshot: str):
        write_text(Path("experiment.yaml"), EXPERIMENT)
        self.snapshot = snapshot
        self.config = load_config([ROOT / "config.yaml", "experiment.yaml"])
        self.settings = self.config.model_dump(mode="json")
        self.model = {"dtype": "float32", "device": "cpu", "gpus": 1}
        self.common = {"prompts": self.settings["prompts"], "max_input_tokens": 256, "seed": 0}

    def start(self, script: str, name: str, inputs: dict, outputs: dict, params: dict, **resources) -> None:
        job = SimpleNamespace(rule=script, threads=1, input=inputs, output=outputs, params=params)
        job.resources = {"batch_tokens": 512, "checkpoint_steps": 2, **resources}
        job.log = [f"logs/{name}.log"]
        main = import_module(script).main
        known = main.__code__.co_varnames[: main.__code__.co_argcount]
        job.resources = {key: value for key, value in job.resources.items() if key in (*known, "processes")}
        run_job(job, main)

    def vectors(self) -> None:
        """A task, its activations, its sweep in two shards, and the heads."""
        own = {"name": TASK, "model": self.model}
        data = self.settings["data"]
        self.start(
            "prepare_task", "task", {}, {"output": f"{TASK}.parquet"}, {"name": TASK, "data": data, "seed": 0}
        )
        inputs = {"snapshot": self.snapshot, "task": f"{TASK}.parquet"}
        outputs = {"prompt_table": "prompts.parquet", "mean": "mean.safetensors"}
        params = {**own, **self.common, "vectors": self.settings["vectors"]}
        self.start("average_activations", "mean", inputs, outputs, params)
        for shard in (0, 1):
            params = {**own, "target": "full", "shard": shard, "shards": 2}
            inputs = {"snapshot": self.snapshot, **outputs}
            self.start("sweep_heads", f"sweep{shard}", inputs, {"effects": f"shard{shard}.parquet"}, params)
        params = {"tasks": [TASK], "vectors": self.settings["vectors"]}
        outputs = {"effects": ["effects.parquet"], "heads": "heads.parquet"}
        self.start("rank_heads", "rank", {"shards": ["shard0.parquet", "shard1.parquet"]}, outputs, params)

    def stage(self, number: int, processes: int = 1) -> None:
        """A stage of seqlora-ivg; the second one takes its vectors from the model at hand."""
        method, name = resolve(self.config, "seqlora-ivg"), f"{number}-{processes}"
        inputs = {"snapshot": self.snapshot, "task": f"{TASK}.parquet", "heads": "heads.parquet"}
        inputs |= {"mean": "mean.safetensors", "prompt_table": "prompts.parquet"}
        inputs |= {"earlier": ["adapter1-1"]} if number > 1 else {}
        guidance = {**method.guidance, "vectors_from": "current" if number > 1 else "initial"}
        params = {
            "method": "seqlora",
            "needs": {"adapter": "continued", "tuner": "lora"},
            "stage": number,
            "seed": 0,
        }
        params |= {
            "model": {"name": "tiny", "source": "", **self.model},
            "training": method.training_on(TASK),
        }
        params |= {"settings": method.settings, "prompts": self.settings["prompts"], "guidance": guidance}
        outputs = {"adapter": f"adapter{name}", "steps": f"steps{name}.parquet"}
        self.start("train_stage", f"train{name}", inputs, outputs, params, processes=processes)

    def evaluation(self) -> None:
        inputs = {"snapshot": self.snapshot, "tasks": [f"{TASK}.parquet"], "adapters": ["adapter2-1"]}
        params = {"roles": {TASK: "held_out"}, "model": self.model, "evaluation": self.settings["evaluation"]}
        params |= {"answer_lengths": {TASK: 4}, "metrics": {TASK: None}, **self.common}
        self.start("evaluate_stage", "evaluation", inputs, {"output": "evaluation.parquet"}, params)


if __name__ == "__main__":
    jobs = Jobs(sys.argv[1])
    jobs.vectors()
    jobs.stage(1)
    jobs.stage(2)
    jobs.stage(1, processes=2)
    jobs.evaluation()

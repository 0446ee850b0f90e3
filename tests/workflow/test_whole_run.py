"""A whole run on a tiny model: everything that is promised is there, and a second run does nothing."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.torch import load_file

from anamnesis.core.stopwatch import LINE
from runs import CONFIG, HEADS, HELD_OUT, MODEL, SUITE, SWEPT, TRAINED, stage

METHODS = ("inclora", "inclora-ivg")
SETS = (*TRAINED, HELD_OUT)
STAGES = [(method, number) for method in METHODS for number in (1, 2)]
LAYERS, HEADS_PER_LAYER, HEAD_DIM, HIDDEN = 3, 4, 12, 48  # of the tiny model

TASK = [
    "split", "example_id", "instruction", "input", "target", "choices", "label",
    "knowledge_prompt", "knowledge_target", "knowledge_choices",
]  # fmt: skip
EVALUATION = [
    "set", "role", "form", "shots", "example_id", "prompt_sha256", "prediction", "target", "score", "metric",
    "scorer", "cut", "empty", "choice_logprobs", "choice_scores",
]  # fmt: skip
COLUMNS = {
    **{f"results/tasks/{name}.parquet": TASK for name in SETS},
    str(MODEL / f"vectors/{SWEPT}/causal_effects.parquet"): [
        "prompt_id", "layer", "head", "p_clean", "p_patched", "effect", "log_effect",
    ],
    str(HEADS): [
        "rank", "layer", "head", "effect", "standard_error", "n_prompts", "n_tasks", "selected",
    ],
    str(MODEL / f"vectors/{SWEPT}/interventions.parquet"): [
        "set", "split", "layer", "condition", "base", "accuracy", "n",
    ],
    **{
        str(SUITE / method / "order1/seed0/recovery.parquet"): [
            "method", "order", "seed", "set", "condition", "layer", "accuracy", "n", "right",
        ]
        for method in METHODS
    },
    str(SUITE / "base/stage0/evaluation.parquet"): EVALUATION,
    **{str(stage(method, number) / "evaluation.parquet"): EVALUATION for method, number in STAGES},
    str(SUITE / "accuracy.parquet"): [
        "method", "order", "seed", "stage", "trained_task", "set", "role", "form", "shots", "metric",
        "scorer", "value", "n", "empty",
    ],
}  # fmt: skip
RECORDS = {
    "results/models/tiny.json": "prepare_model",
    **{f"results/tasks/{name}.json": "prepare_task" for name in SETS},
    **{str(MODEL / f"vectors/{name}/mean_activations.json"): "average_activations" for name in SETS},
    **{str(MODEL / f"vectors/{SWEPT}/causal_effects-{i}-of-2.json"): "sweep_heads" for i in (1, 2)},
    str(MODEL / "vectors/heads.json"): "rank_heads",
    str(MODEL / "vectors/instruction_vectors.json"): "build_vectors",
    str(MODEL / f"vectors/{SWEPT}/interventions.json"): "intervene",
    **{str(SUITE / method / "order1/seed0/recovery.json"): "recover" for method in METHODS},
    str(SUITE / "base/stage0/evaluation.json"): "evaluate_base",
    **{str(stage(method, number) / "training.json"): "train_stage" for method, number in STAGES},
    **{str(stage(method, number) / "evaluation.json"): "evaluate_stage" for method, number in STAGES},
    str(SUITE / "table1.json"): "tabulate_results",
}


@pytest.mark.parametrize("file", COLUMNS)
def test_tables_have_the_columns_promised(whole, file):
    frame = pd.read_parquet(whole.folder / file)
    assert list(frame.columns) == COLUMNS[file]
    assert len(frame)


@pytest.mark.parametrize("file", RECORDS)
def test_record_says_how_a_result_was_made(whole, file):
    record = json.loads((whole.folder / file).read_text())
    assert record["rule"] == RECORDS[file]
    assert record["versions"]["torch"].startswith("2.")
    assert record["seconds"] > 0
    assert record["peak_memory_mib"] > 10
    assert len(record["code"]) == 16
    assert all(len(digest) == 64 for digest in record["inputs"].values())
    assert record["inputs"] or record["rule"].startswith("prepare_")
    assert {"python", "machine", "git_commit", "params"} <= record.keys()


def test_records_hold_seeds_digests_and_limits(whole):
    read = {path: json.loads((whole.folder / path).read_text()) for path in RECORDS}
    training = read[str(stage("inclora-ivg", 2) / "training.json")]
    assert training["seed"] == training["params"]["seed"] == 0
    assert training["params"]["checkpoint_steps"] == CONFIG["training"]["checkpoint_steps"]
    assert training["params"]["guidance"]["heads"] == 3
    assert training["load_order"] == [str(stage("inclora-ivg", number) / "adapter") for number in (1, 2)]
    before = stage("inclora-ivg", 1) / "adapter/adapter_model.safetensors"
    assert {str(before), str(HEADS)} <= training["inputs"].keys()
    assert read[str(SUITE / "base/stage0/evaluation.json")]["params"]["batch_tokens"] == 2048
    assert len(read["results/models/tiny.json"]["snapshot_sha256"]) == 64


def test_evaluations_cover_every_set_form_and_number_of_shots(whole):
    frame = pd.read_parquet(whole.folder / stage("inclora", 2) / "evaluation.parquet")
    instruction = frame[frame.form == "instruction"].groupby(["set", "shots"]).size()
    assert instruction.to_dict() == {(name, shots): 4 for name in SETS for shots in (0, 2)}
    assert set(frame[frame.form == "knowledge"].set) == {HELD_OUT}
    assert dict(zip(frame.set, frame.role, strict=True)) == {
        **dict.fromkeys(TRAINED, "train_task"),
        HELD_OUT: "held_out",
    }
    assert frame.score.isin([0, 1]).all()


def test_accuracy_matrix_has_every_stage_and_agrees_with_the_evaluation(whole):
    matrix = pd.read_parquet(whole.folder / SUITE / "accuracy.parquet")
    matrix = matrix[(matrix.method == "inclora") & (matrix.order == 1) & (matrix.seed == 0)]
    trained = matrix[matrix.stage > 0].groupby("stage").trained_task.unique().map(list)
    assert trained.to_dict() == {1: [TRAINED[0]], 2: [TRAINED[1]]}
    assert matrix[matrix.stage == 0].trained_task.isna().all()
    rows = pd.read_parquet(whole.folder / stage("inclora", 1) / "evaluation.parquet")
    expected = rows.groupby(["set", "form", "shots"]).score.mean()
    found = matrix[matrix.stage == 1].set_index(["set", "form", "shots"]).value
    assert found.to_dict() == pytest.approx(expected.to_dict())


def test_heads_and_vectors_have_the_shapes_of_the_model(whole):
    heads = pd.read_parquet(whole.folder / HEADS)
    assert list(heads["rank"]) == list(range(1, LAYERS * HEADS_PER_LAYER + 1))
    assert heads.selected.sum() == 3
    for name in SETS:
        folder = whole.folder / MODEL / "vectors" / name
        mean = load_file(folder / "mean_activations.safetensors")["mean"]
        assert mean.shape == (LAYERS, HEADS_PER_LAYER, HEAD_DIM)
        assert load_file(folder / "instruction_vector.safetensors")["theta"].shape == (HIDDEN,)
        prompts = pd.read_parquet(folder / "prompts.parquet")
        assert prompts.kind.value_counts().to_dict() == {"clean": 4, "shuffled": 4}
    effects = pd.read_parquet(whole.folder / MODEL / f"vectors/{SWEPT}/causal_effects.parquet")
    assert len(effects) == 4 * LAYERS * HEADS_PER_LAYER  # both shards


def test_vectors_are_added_after_training_to_every_chain_at_the_layer_of_the_interventions(whole):
    record = json.loads((whole.folder / MODEL / f"vectors/{SWEPT}/interventions.json").read_text())
    layer = record["chosen_layer"]
    for method in METHODS:
        table = pd.read_parquet(whole.folder / SUITE / method / "order1/seed0/recovery.parquet")
        assert table.groupby("condition").layer.unique().map(list).to_dict() == {
            "none": [-1], "few-shot": [-1], "add": [layer], "random": [layer],
        }  # fmt: skip
        assert set(zip(table["set"], table.seed, table.n, strict=True)) == {(SWEPT, 0, 3)}
        record = json.loads((whole.folder / SUITE / method / "order1/seed0/recovery.json").read_text())
        adapters = [file for file in record["inputs"] if file.endswith("adapter_model.safetensors")]
        assert adapters == [str(stage(method, i) / "adapter/adapter_model.safetensors") for i in (1, 2)]
    gains = pd.read_csv(whole.folder / SUITE / "figures/vector_recovery_gain.csv")
    assert list(zip(gains["method"], gains["set"], gains["n"], strict=True)) == [
        (m, SWEPT, 1) for m in METHODS
    ]


def test_figures_and_summary_are_whole(whole):
    starts = {"pdf": b"%PDF", "png": b"\x89PNG"}
    for name in ("accuracy_curves", "head_effects", "summary", "interventions", "vector_recovery"):
        for kind, start in starts.items():
            content = (whole.folder / SUITE / "figures" / f"{name}.{kind}").read_bytes()
            assert content.startswith(start)
            assert len(content) > 3000
        assert len(pd.read_csv(whole.folder / SUITE / "figures" / f"{name}.csv"))
    table = pd.read_csv(whole.folder / SUITE / "table1.csv")
    assert set(METHODS) <= set(table["method"])
    for kind in ("md", "tex"):
        assert "inclora" in (whole.folder / SUITE / f"table1.{kind}").read_text()


def test_report_is_one_file_with_its_pictures(whole):
    text = (whole.folder / SUITE / "report.html").read_text()
    assert text.count("data:image/png;base64,") == 5
    assert "Do the vectors give anything back?" in text
    assert "inclora-ivg" in text


def test_files_of_a_kind_load_as_one_data_set(whole, tmp_path):
    datasets = pytest.importorskip("datasets")
    kinds: dict[str, list[Path]] = {}
    for file in sorted(whole.folder.joinpath("results").rglob("*.parquet")):
        kind = "task" if file.parent.name == "tasks" else re.sub(r"-\d+-of-\d+", "", file.name)
        kinds.setdefault(kind, []).append(file)
    assert {"task", "training.parquet", "evaluation.parquet", "prompts.parquet"} <= {*kinds}
    for kind, files in kinds.items():
        more = {}
        if kind == "training.parquet":  # methods have parts of the loss of their own
            schemas = [pq.read_schema(file).remove_metadata() for file in files]
            more = {"features": datasets.Features.from_arrow_schema(pa.unify_schemas(schemas))}
        table = datasets.load_dataset(
            "parquet", data_files=[*map(str, files)], split="train", cache_dir=str(tmp_path), **more
        )
        assert len(table) == sum(pq.read_metadata(file).num_rows for file in files), kind


def test_only_results_are_left(whole):
    """No half-written file, no checkpoint; nothing outside of the results."""
    assert not [file for file in whole.files() if file.endswith((".part", ".old")) or "checkpoint" in file]
    assert {path.name for path in whole.folder.iterdir()} == {
        ".snakemake", "experiment.yaml", "first_run.txt", "results",
    }  # fmt: skip


def test_second_run_does_nothing(whole):
    before = {file: (whole.folder / file).stat().st_mtime_ns for file in whole.files()}
    done = whole.run()
    assert done.returncode == 0, done.stdout
    assert "Nothing to be done" in done.stdout
    assert {file: (whole.folder / file).stat().st_mtime_ns for file in whole.files()} == before


def test_every_job_has_a_log_without_a_traceback(whole):
    logs = list((whole.folder / "results/logs").rglob("*.log"))
    assert len(logs) >= len(RECORDS)
    assert not [log for log in logs if "Traceback" in log.read_text()]
    assert "Traceback" not in (whole.folder / "first_run.txt").read_text()


@pytest.mark.skipif(sys.platform != "linux", reason="forks are for Linux")
@pytest.mark.parametrize(("method", "number"), STAGES)
def test_jobs_are_forks_and_their_costs_are_those_of_the_fork(whole, method, number):
    name = f"evaluate_stage/{method}-order1-seed0-stage{number}"
    log = (whole.folder / f"results/logs/{name}.log").read_text()
    assert float(LINE.search(log)[2]) < 2  # seconds of imports: torch alone takes as long
    costs = pd.read_csv(whole.folder / f"results/benchmarks/{name}.tsv", sep="\t").iloc[0]
    record = json.loads((whole.folder / stage(method, number) / "evaluation.json").read_text())
    assert costs["max_rss"] == pytest.approx(record["peak_memory_mib"], rel=0.05)
    assert costs["max_rss"] > 200  # torch is in it
    assert costs["s"] >= record["seconds"] - 0.01  # which is rounded
    assert costs["cpu_time"] > 0

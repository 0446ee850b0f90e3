"""What jobs ask the scheduler for: memory, time, cores and GPUs."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest

import tiny_models
from anamnesis.config.load import load_config
from anamnesis.core import devices
from anamnesis.core.artifacts import write_parquet
from anamnesis.core.errors import UserError
from anamnesis.data.builtin import builtin_task
from anamnesis.estimate.demands import Demands, gpus_per_process, minutes
from anamnesis.estimate.memory import memory_mib
from anamnesis.estimate.shape import known_shape

ROOT = Path(__file__).parents[2]
SIZES = {"train": 16, "validation": 8, "test": 6}


def test_larger_models_and_training_ask_for_more():
    small, large = (known_shape(name, "bfloat16") for name in ("smollm2-135m", "llama-2-7b"))
    assert memory_mib(small, 2048) < memory_mib(small, 2048, training=True) < memory_mib(large, 2048)
    assert memory_mib(large, 2048) > large.bytes / 2**20
    config = load_config(ROOT / "config.yaml")
    assert minutes(config, "train_stage", small, 0) < minutes(config, "train_stage", large, 0)
    assert minutes(config, "train_stage", large, 1) < minutes(config, "train_stage", large, 0)


@pytest.fixture
def prepared(tmp_path):
    """The table of a task, as a training stage reads it."""
    write_parquet(tmp_path / "task.parquet", builtin_task("news_topic", 0, SIZES))
    return {"task": str(tmp_path / "task.parquet")}


def test_a_retry_asks_for_more_and_an_unknown_model_for_patience(tmp_path, prepared):
    config = load_config(ROOT / "config.yaml")
    demands = Demands(config, tmp_path / "model")
    with pytest.raises(FileNotFoundError):
        demands.memory()(None, attempt=1)
    assert demands.threads(None) == 1
    tiny_models.save_snapshot(tmp_path / "model")
    job = SimpleNamespace(method="inclora")
    stage = partial(demands.memory_of_stage, input=prepared)
    for asked in (demands.memory(), demands.memory(training=True), stage):
        first, second = asked(job, attempt=1), asked(job, attempt=2)
        assert first < second <= 1.5 * first + 1
    assert demands.time("evaluate")(job, 2) == 2 * demands.time("evaluate")(job, 1)
    resumed = demands.time("train_stage", resumes=True)
    assert resumed(job, attempt=3) == resumed(job, attempt=1)  # a preempted job stays within its partition


def test_a_stage_asks_for_the_memory_of_its_batches(tmp_path, prepared):
    tiny_models.save_snapshot(tmp_path / "model")

    def asked(method="inclora", task=prepared, flashbacks=2, **training) -> int:
        changes = {"training": training, "methods": {"jfa": {"flashbacks_per_step": flashbacks}}}
        config = load_config([ROOT / "config.yaml", changes])
        job = SimpleNamespace(method=method)
        return Demands(config, tmp_path / "model").memory_of_stage(job, task, attempt=1)

    assert asked(batch_size=4096) > 3 * asked(batch_size=512) > 3 * asked()
    assert asked(batch_size=4096, max_input_tokens=20) < asked(batch_size=4096)
    assert asked("replay", batch_size=4096) > asked(batch_size=4096)  # earlier tasks' examples come on top
    known = str(tmp_path / "known.parquet")
    write_parquet(known, builtin_task("news_topic", 0, SIZES).assign(input="far more of it " * 60))
    long = {**prepared, "past": [known]}
    assert asked("replay", long, batch_size=4096) > asked("replay", batch_size=4096)  # and may be longer
    assert asked("jfa", long, batch_size=4) < asked("jfa", long, 4096, batch_size=4)
    assert asked("jfa", batch_size=4) == asked("jfa", {**prepared, "past": []}, 4096, batch_size=4)
    assert asked("inclora", long, batch_size=4096) == asked(batch_size=4096)
    with pytest.raises(FileNotFoundError):
        asked("jfa", {**prepared, "past": str(tmp_path / "none.parquet")})
    before = asked(batch_size=4096)
    longer = builtin_task("news_topic", 0, SIZES)
    longer["input"] += " and more of it" * 5
    write_parquet(prepared["task"], longer)  # made anew in the same run
    assert asked(batch_size=4096) > before
    with pytest.raises(FileNotFoundError) as caught:
        asked(task={"task": str(tmp_path / "none.parquet")})
    assert caught.value.filename == str(tmp_path / "none.parquet")  # Snakemake waits for it


def test_the_preparation_asks_for_the_weights_as_they_are_read(tmp_path):
    def asked(source: str, attempt: int = 1) -> int:
        config = load_config([ROOT / "config.yaml", {"model": {"source": source, "sha256": None}}])
        return Demands(config, tmp_path / "none").memory_of_preparation(None, attempt)

    def file(name: str, mib: int) -> str:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        with path.open("wb") as opened:
            opened.write(b"GGUF")
            opened.truncate(mib * 2**20)  # takes no room on the disk
        return f"path:{path.parent if path.suffix == '.safetensors' else path}"

    small, large = file("small/model.safetensors", 300), file("large/model.safetensors", 30_000)
    for folder in ("small", "large"):
        (tmp_path / folder / "config.json").write_text("{}")
    assert asked(small) > 300
    assert 30_000 < asked(large) < 40_000
    assert asked(large) < asked(large, attempt=2) <= 1.5 * asked(large) + 1
    assert asked(file("packed.gguf", 300)) > 8 * 300  # four bits become a float32
    assert asked("hf:owner/name@main") > known_shape("llama-2-7b", "bfloat16").bytes / 2**20
    assert asked(f"path:{tmp_path}/nothing") >= 0  # the job says that it is not there


def tuned(snapshot: Path, **tuning) -> Demands:
    return Demands(load_config([ROOT / "config.yaml", {"tuning": tuning}]), snapshot)


def test_the_tuning_asks_for_the_memory_of_its_longest_task(tmp_path, prepared):
    tiny_models.save_snapshot(tmp_path / "model")
    long = str(tmp_path / "long.parquet")
    write_parquet(long, builtin_task("antonym", 0, SIZES).assign(input="far more of it " * 60))
    both = [prepared["task"], long]

    def asked(tasks, attempt=1, **tuning) -> int:
        return tuned(tmp_path / "model", **tuning).memory_of_tuning(None, {"tasks": tasks}, attempt)

    assert asked(both, batch_size=1024) > 2 * asked(both, batch_size=256) > 2 * asked(both)
    assert asked(both, batch_size=1024) > asked(both[:1], batch_size=1024)
    assert asked(both, batch_size=1024) == asked([long], batch_size=1024)
    assert asked(both) < asked(both, attempt=2) <= 1.5 * asked(both) + 1
    whole = tuned(tmp_path / "model", batch_size=1024)
    less = {"tuning": {"batch_size": 1024}, "training": {"max_input_tokens": 20}}
    cut = Demands(load_config([ROOT / "config.yaml", less]), tmp_path / "model")
    few, many = (each.memory_of_tuning(None, {"tasks": both}, 1) for each in (cut, whole))
    assert few < many
    evaluated = whole.memory()(None, attempt=1)  # accuracy is measured before and after
    assert asked(both[:1], batch_size=1) >= evaluated
    with pytest.raises(FileNotFoundError) as caught:
        asked([*both, str(tmp_path / "none.parquet")])
    assert caught.value.filename == str(tmp_path / "none.parquet")  # Snakemake waits for it


def test_a_job_that_all_others_wait_for_gets_four_cores_or_its_gpu(tmp_path, monkeypatch):
    tiny_models.save_snapshot(tmp_path / "model")
    monkeypatch.setenv(devices.VISIBLE, "")
    demands = tuned(tmp_path / "model")
    assert (demands.threads(None), demands.threads_alone(None)) == (1, 4)
    assert tuned(tmp_path / "none").threads_alone(None) == 4  # as long as the model is not there
    monkeypatch.setattr(Demands, "_shape", lambda self: known_shape("llama-2-7b", "float32"))
    assert demands.threads_alone(None) == demands.threads(None) == 8
    monkeypatch.setenv(devices.VISIBLE, "0")
    assert tuned(tmp_path / "model").threads_alone(None) == 1


def test_the_tuning_has_time_for_its_examples_of_all_tasks():
    small, large = (known_shape(name, "bfloat16") for name in ("smollm2-135m", "llama-2-7b"))

    def limit(**tuning) -> int:
        config = load_config([ROOT / "config.yaml", {"tuning": {"examples": 16, **tuning}}])
        return minutes(config, "tune_model", large, 1) - minutes(config, "tune_model", small, 1)

    held_out = len(load_config(ROOT / "config.yaml").suite.held_out)
    assert limit(examples=160) > limit() > 0
    assert limit(epochs=10) > 2 * limit()
    two = ["antonym", "plural"]
    assert limit() == pytest.approx(held_out / len(two) * limit(tasks=two), abs=held_out)  # whole minutes


def test_on_a_gpu_activations_are_not_in_the_memory_of_the_computer():
    shape = known_shape("llama-2-7b", "bfloat16")
    assert memory_mib(shape, 64_000, on_gpu=True) < 1.5 * shape.bytes / 2**20 < memory_mib(shape, 64_000)


def test_larger_models_get_more_cores(tmp_path, monkeypatch):
    snapshot, config = tmp_path / "model", load_config(ROOT / "config.yaml")
    tiny_models.save_snapshot(snapshot)
    demands = Demands(config, snapshot)
    assert demands.threads(None) == 1
    monkeypatch.setattr(Demands, "_shape", lambda self: known_shape("llama-2-7b", "float32"))
    assert demands.threads(None) == 8
    four = Demands(load_config([ROOT / "config.yaml", {"training": {"processes": 4}}]), snapshot)
    assert four.threads_of_stage(SimpleNamespace(method="inclora")) == 32


def test_gpus_are_asked_for_where_jobs_use_them(monkeypatch):
    monkeypatch.setenv(devices.VISIBLE, "")
    assert [gpus_per_process(device) for device in ("cpu", "auto", "cuda")] == [0, 0, 1]
    monkeypatch.setenv(devices.VISIBLE, "0,1")
    assert [gpus_per_process(device) for device in ("cpu", "auto", "cuda")] == [0, 1, 1]


def test_several_processes_ask_for_what_each_needs(tmp_path, prepared, monkeypatch):
    monkeypatch.setenv(devices.VISIBLE, "0,1,2,3")
    monkeypatch.setattr(Demands, "_shape", lambda self: known_shape("llama-2-7b", "bfloat16"))
    variants = {"alone": {"of": "inclora", "training": {"processes": 1}}}
    changes = {"training": {"methods": ["inclora", "alone"], "processes": 4}, "variants": variants}
    whole = Demands(load_config([ROOT / "config.yaml", changes]), tmp_path / "model")
    alone, four = (SimpleNamespace(method=name) for name in ("alone", "inclora"))
    assert (whole.gpus, whole.training_gpus(four), whole.training_gpus(alone)) == (1, 4, 1)
    one, together = (whole.memory_of_stage(each, prepared, attempt=1) for each in (alone, four))
    assert together == 4 * one
    changes = {"training": {"processes": 4}, "model": {"gpus": 2}, "tuning": {"enabled": False}}
    divided = Demands(load_config([ROOT / "config.yaml", changes]), tmp_path / "model")
    assert (divided.gpus, divided.training_gpus(four)) == (2, 4)
    assert one < divided.memory_of_stage(four, prepared, attempt=1) < together


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"model": {"gpus": 4}, "training": {"processes": 3}},
            r"^training\.processes = 3 \(for fvg\): the model takes model\.gpus = 4 GPUs",
        ),
        (
            {"methods": {"fvg": {"gates": True}}},
            r"^methods\.fvg\.gates = true \(for fvg\): no process sees the whole batch",
        ),
        (
            {"model": {"gpus": 2}, "training": {"processes": 2}, "methods": {"jfa": {"latent_tasks": True}}},
            r"^methods\.jfa\.latent_tasks = true \(for jfa-ivg\): prompts are encoded by a whole model",
        ),
    ],
)
def test_what_several_processes_or_gpus_cannot_do_is_refused(changes, message):
    fitting = {
        "training": {"methods": ["fvg", "jfa-ivg"], "processes": 4},
        "model": {"gpus": 4},
        "tuning": {"enabled": False},
        "methods": {"jfa": {"latent_tasks": False}},
    }
    files = [ROOT / "config.yaml", fitting]
    assert load_config(files).training.processes == 4
    with pytest.raises(UserError, match=message):
        load_config([*files, changes])

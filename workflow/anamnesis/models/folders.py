"""What of a folder in Hugging Face format is the model, and what is not: nothing else in it is read."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from anamnesis.core.artifacts import read_json, write_json
from anamnesis.core.errors import UserError, first_line
from anamnesis.core.fields import expand_path
from anamnesis.core.user_files import no_file_at, no_folder_at, require_content

logger = logging.getLogger(__name__)

PATTERNS = ("*.json", "*.txt", "*.model", "*.jinja", "*.safetensors")
"""Files of a repository that a model is read from: those below have no others."""
WHOLE, INDEX, ADAPTER = "model.safetensors", "model.safetensors.index.json", "adapter_config.json"
GGUF = ".gguf"
TEMPLATES = "additional_chat_templates"
_SHARD = re.compile(r".*-\d+-of-(\d+)\.safetensors")


def local_weights(name: str) -> list[Path]:
    """The files that the weights of a ``path:`` source are read from. Raises UserError for a folder or file
    that is not there or holds no model.
    """
    path = Path(expand_path(name))
    if not os.path.exists(path):
        raise UserError(
            f"model.source is 'path:{name}': no such file or folder; give a folder with config.json and "
            "safetensors weights, or a GGUF file"
        )
    if os.path.isdir(path):
        if problem := no_folder_at(path):
            raise UserError(f"model.source is 'path:{name}': {problem}")
        return weights_in(path)
    require_content(path)
    with path.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise UserError(
                f"model.source is 'path:{name}', which is no GGUF file: give a folder with config.json and "
                "safetensors weights, or a GGUF file"
            )
    return [path]


def weights_in(folder: Path) -> list[Path]:
    """The files that the weights of the model in a folder are read from: safetensors, or one GGUF file.

    Raises UserError as ``weight_files``, and where there is no model that can be read.
    """
    weights = weight_files(folder)
    for file in weights:
        if problem := no_file_at(file):
            raise UserError(f"{file}: {problem}; where it is a link, copy what it leads to as well (cp -rL)")
        require_content(file)
    if weights and (folder / "config.json").exists():
        return weights
    packed = sorted(file for file in folder.iterdir() if file.suffix.lower() == GGUF)
    if len(packed) != 1:
        raise _no_model(folder, packed)
    return packed


def weight_files(folder: Path) -> list[Path]:
    """The files with the weights of the model in ``folder``, in the order of their names: the one with the
    usual name, the shards of the index, all shards there are without one, or the only file.

    Empty without any. Raises UserError when one is missing, and when it is not said which belong together.
    """
    whole, index = folder / WHOLE, folder / INDEX
    present = sorted(file for file in folder.glob("*.safetensors") if not _is_of_adapter(file))
    if whole in present or not (present or index.exists()):
        return [whole] if present else []
    if index.exists():
        names = _shards_of(index)
    elif totals := {match[1] for file in present if (match := _SHARD.fullmatch(file.name))}:
        total = int(max(totals))
        names = [file.name for file in present if _SHARD.fullmatch(file.name)]
        if len(totals) > 1 or len(names) != total:
            raise UserError(
                f"{folder} holds {len(names)} of {total} weight files ({names[0]} is one): download all again"
            )
    elif len(present) == 1:
        return present
    else:
        raise UserError(
            f"{folder} holds several weight files and no {INDEX}, so that it is not known which belong "
            f"together ({', '.join(file.name for file in present[:3])}): keep those of one model"
        )
    if missing := [name for name in names if not (folder / name).is_file()]:
        raise UserError(
            f"{folder} lacks {missing[0]}, one of {len(missing)} missing of the {len(names)} weight files "
            f"that its {INDEX} names: download it again"
        )
    return [folder / name for name in names]


def _shards_of(index: Path) -> list[str]:
    try:
        names = sorted(set(read_json(index)["weight_map"].values()))
        if not all(Path(name).name == name for name in names):
            raise ValueError("a name is a path")
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise UserError(
            f"{index} does not say which files hold the weights ({first_line(error)}): download it again"
        ) from error
    return names


def only_the_model(folder: Path, weights: Sequence[Path], empty: Path) -> Path:
    """``empty`` as a folder of links to the files of the model: transformers, given the folder itself, would
    load the base model of an adapter in it instead, and shards only with an index.
    """
    empty.mkdir()
    if weights and weights[0].suffix != ".safetensors":  # GGUF holds all of a model
        (empty / weights[0].name).symlink_to(weights[0].absolute())
        return empty
    files = [
        file
        for file in folder.iterdir()
        if file.is_file() and file.suffix.lower() not in (".safetensors", GGUF)
    ]
    for file in files:
        if not (_is_of_adapter(file) or file.name == INDEX):
            (empty / file.name).symlink_to(file.absolute())
    if (folder / TEMPLATES).is_dir():
        (empty / TEMPLATES).symlink_to((folder / TEMPLATES).absolute())
    for file in weights:
        (empty / (file.name if len(weights) > 1 else WHOLE)).symlink_to(file.absolute())
    if len(weights) > 1:
        write_json(empty / INDEX, {"metadata": {}, "weight_map": dict(_places_of_weights(weights))})
    if (folder / ADAPTER).exists():
        logger.warning(
            "%s: the model there is taken, and the adapter there (%s) is left out; to start from both, merge "
            "it into the model first",
            folder,
            ADAPTER,
        )
    return empty


def _places_of_weights(files: Iterable[Path]) -> Iterable[tuple[str, str]]:
    from safetensors import safe_open

    for file in files:
        try:
            with safe_open(file, "np") as opened:
                yield from ((name, file.name) for name in opened.keys())  # noqa: SIM118
        except Exception as error:  # safetensors raises its own kinds
            raise UserError(
                f"{file} cannot be read ({first_line(error)}): it is damaged; download it again"
            ) from error


def _no_model(folder: Path, packed: Sequence[Path]) -> UserError:
    """The error for a folder without weights, or without their configuration, that can be read."""
    if (folder / ADAPTER).exists():
        base = read_json(folder / ADAPTER).get("base_model_name_or_path")
        return UserError(
            f"{folder} holds a PEFT adapter of the model {base}, not a model: merge it into that model "
            "(merge_and_unload of PEFT), save both together and give that folder"
        )
    if packed:
        names = ", ".join(file.name for file in packed[:3])
        return UserError(f"{folder} holds {len(packed)} GGUF files ({names}): give the path of one of them")
    below = sorted(
        path.parent for path in [*folder.glob("*/config.json"), *folder.glob("snapshots/*/config.json")]
    )
    hint = f"; {below[0]} has a config.json: perhaps that is meant" if below else ""
    return UserError(
        f"{folder} holds neither config.json with *.safetensors nor exactly one *.gguf: convert the model to "
        f"safetensors (pickled weights are refused){hint}"
    )


def _is_of_adapter(file: Path) -> bool:
    return file.name.startswith("adapter_")

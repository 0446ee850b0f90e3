"""A study on disk: a folder of safetensors, parquet and JSON, each task's in the workflow's own forms."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from anamnesis.core.artifacts import (
    atomic_directory,
    damaged_file,
    read_json,
    read_parquet,
    read_tensors,
    write_json,
    write_parquet,
    write_sums,
    write_tensors,
)
from anamnesis.core.errors import UserError
from anamnesis.data.prompts import Template
from anamnesis.engine.prefix_engine import PrefixEngine
from anamnesis.study.digests import model_digest, tokenizer_digest
from anamnesis.study.inputs import pair_list
from anamnesis.study.tasks import ALONE, Pairs, Study, data_digest
from anamnesis.vectors.activations import read_activations, write_activations
from anamnesis.vectors.icl import TYPES
from anamnesis.vectors.instruction import selected_heads

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

FORMAT = 1


def save_study(study: Study, folder: str | Path) -> None:
    """Write a study to ``folder``, in which an earlier study is replaced: ``study.json``, ``heads.parquet``
    and a folder for each task, with ``prompts.parquet``, ``mean_activations.safetensors``,
    ``causal_effects.parquet`` and ``instruction_vector.safetensors`` as the workflow writes them. The model
    is not part of it.

    Raises UserError for a folder that holds something else, and for a task whose name cannot be that of a
    folder.
    """
    folder = Path(folder)
    if folder.exists() and not (folder.is_dir() and _is_free(folder)):
        raise UserError(f"{folder} is there and holds no study: name a new folder, nothing is replaced")
    chosen = selected_heads(study.heads)
    about = {
        "format": FORMAT, "model": study.model, "data": study.data,
        "tokenizer": tokenizer_digest(study.tokenizer), "heads": chosen, "rank_by": study.rank_by,
        "tasks": list(study.prompts), "instructions": dict(study.instructions),
        "template": vars(study.template),
    }  # fmt: skip
    for task in study.prompts:
        if Path(task).name != task or task == "..":
            raise UserError(f"task '{task}' cannot be saved: its name must be one of a folder; rename it")
    with atomic_directory(folder) as part:
        write_json(part / "study.json", about)
        write_parquet(part / "heads.parquet", study.heads)
        for task, prompts in study.prompts.items():
            own = part / task
            write_parquet(own / "prompts.parquet", prompts, TYPES)
            write_activations(own / "mean_activations.safetensors", task, study.activations[task])
            write_parquet(own / "causal_effects.parquet", study.tables[task])
            header = {"task": task, "heads": str(chosen)}
            write_tensors(own / "instruction_vector.safetensors", {"theta": study.vectors[task]}, header)
        write_sums(part)


def load_study(
    folder: str | Path,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    tasks: Pairs | Mapping[str, Pairs] | None = None,
    same_model: bool = True,
) -> Study:
    """A study that :func:`save_study` wrote, on a model in memory.

    ``tasks``: the pairs, where they are to be checked too. ``same_model=False`` takes another model of the
    same shape, such as a fine-tuned one. Raises UserError for damaged files, another model or tokenizer than
    the study was made with, and other pairs.
    """
    folder = Path(folder)
    if not (folder / "study.json").exists():
        raise UserError(f"{folder} holds no study (no study.json): give a folder that save_study wrote")
    about = read_json(folder / "study.json")
    if broken := _damaged(folder):
        raise UserError(f"the study {folder} is damaged or incomplete ({broken}): make and save it again")
    if about["format"] != FORMAT:
        raise UserError(f"the study {folder} has format {about['format']}: this version reads {FORMAT}")
    if same_model and about["model"] != model_digest(model):
        raise UserError(
            f"the study {folder} was made with another model than this {type(model).__name__}: give "
            "that one, or same_model=False to move its vectors to this one"
        )
    if about["tokenizer"] != tokenizer_digest(tokenizer):
        raise UserError(f"the study {folder} was made with another tokenizer: give the one of its model")
    instructions = {task: about["instructions"][task] for task in about["tasks"]}
    if tasks is not None:
        named = tasks if isinstance(tasks, Mapping) else {ALONE: tasks}
        given = {task: pair_list(task, pairs) for task, pairs in named.items()}
        if given.keys() != instructions.keys() or data_digest(given, instructions) != about["data"]:
            raise UserError(f"the study {folder} was made from other pairs than those of `tasks`")
    paths = {task: folder / task for task in instructions}
    return Study(
        PrefixEngine(model), tokenizer, Template(**about["template"]), instructions,
        prompts={task: read_parquet(path / "prompts.parquet") for task, path in paths.items()},
        activations={
            task: read_activations(path / "mean_activations.safetensors") for task, path in paths.items()
        },
        tables={task: read_parquet(path / "causal_effects.parquet") for task, path in paths.items()},
        heads=read_parquet(folder / "heads.parquet"),
        vectors={
            task: read_tensors(path / "instruction_vector.safetensors")["theta"]
            for task, path in paths.items()
        },
        rank_by=about["rank_by"], model=about["model"], data=about["data"],
    )  # fmt: skip


def _is_free(folder: Path) -> bool:
    """Whether a folder is empty, or what :func:`save_study` wrote."""
    return (folder / "study.json").exists() or not any(folder.iterdir())


def _damaged(folder: Path) -> str | None:
    try:
        return damaged_file(folder)
    except OSError:
        return "SHA256SUMS"

"""Write the model after a stage as one folder that transformers loads alone: ``python -m
anamnesis.commands.export STAGE --to FOLDER``.

``STAGE`` is a stage's folder below ``results``. Run it where the workflow ran.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from anamnesis.commands import reported
from anamnesis.core import hub_access
from anamnesis.core.artifacts import atomic_directory, read_batches, read_json, write_text
from anamnesis.core.errors import UserError, first_line
from anamnesis.models.cards import hub_id, model_card
from anamnesis.stats.forgetting import SCORED, mean_scores

NO_SCORES = pd.DataFrame(columns=[*SCORED, "value", "n"])


def export_stage(stage: Path, to: Path, dtype: str | None = None) -> None:
    """Write the merged model (safetensors; ``dtype`` None: as it was trained), its tokenizer and a model card
    to the folder ``to``.

    Raises UserError for a folder that is no trained stage, for files that are gone, and for a stage whose
    model needs more than merged weights.
    """
    from anamnesis.models.loading import load_model, merge_adapters
    from anamnesis.training.slices import load_part

    record = _record(stage)
    for file in (record["snapshot"], *record["load_order"]):
        if not Path(file).exists():
            raise UserError(f"{file}, which {stage} needs, is not here: run export where the workflow ran")
    own = load_part(record["params"]["method"], "engine")
    if own and own.depends_on_prompt(record["load_order"]):
        raise UserError(
            f"{stage} has latent tasks, which choose other weights for every prompt: no single model is "
            "equal to it; load it as the README of its adapter says"
        )
    model, tokenizer = load_model(
        Path(record["snapshot"]), dtype or record["params"]["model"]["dtype"], "cpu"
    )
    model = merge_adapters(model, [Path(adapter) for adapter in record["load_order"]])
    with atomic_directory(to) as folder:
        model.save_pretrained(folder, safe_serialization=True)
        tokenizer.save_pretrained(folder)
        write_text(folder / "README.md", _card(stage, record))


def push(folder: Path, repository: str) -> str:
    """Send an exported folder to a private or existing ``repository`` of the hub; returns its address.

    Raises UserError without a token, and for whatever the hub refuses.
    """
    from huggingface_hub import HfApi, get_token

    if hub_access.is_offline():
        raise UserError(f"--push {repository}: HF_HUB_OFFLINE is set; unset it, and run again")
    if get_token() is None:
        raise UserError(f"--push {repository}: no token; set HF_TOKEN to one that may write, and run again")
    try:
        url = HfApi().create_repo(repository, exist_ok=True, private=True)
        HfApi().upload_folder(repo_id=repository, folder_path=folder)
    except Exception as error:  # the library raises many kinds; the user's remedy is in the message
        raise UserError(f"--push {repository}: the hub refused it ({first_line(error)})") from error
    return str(url)


def _record(stage: Path) -> Mapping:
    if not (stage / "training.json").exists():
        raise UserError(
            f"{stage} is not the folder of a trained stage (no training.json): give one such as "
            "results/<model>/<suite>/<method>/order1/seed0/stage1"
        )
    return read_json(stage / "training.json")


def _card(stage: Path, record: Mapping) -> str:
    params, evaluation = record["params"], stage / "evaluation.parquet"
    scores = NO_SCORES
    if evaluation.exists():
        scores = mean_scores(read_batches(evaluation, SCORED), str(evaluation))
    name = params["model"]["name"]
    facts = [
        f"Method: {params['method']}" + (", guided by instruction vectors" if params["guidance"] else ""),
        f"Stage {record['stage']}, trained with seed {record['seed']} on {record['examples']} examples",
        f"Learning rate {params['training']['learning_rate']:g}, {params['training']['epochs']} epochs, "
        f"batches of {params['training']['batch_size']}",
    ]
    title = "-".join(part for part in (name.partition(",")[0], *stage.parts[-4:]) if part)
    return model_card(title, name, facts, scores, hub_id(params["model"]["source"]))


def main(arguments: Sequence[str] | None = None) -> int:
    """Export as the command line says; 1 and one line of error for what cannot be exported."""
    parser = argparse.ArgumentParser(prog="export", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("stage", type=Path, help="folder of a stage, results/…/stage<n>")
    parser.add_argument("--to", type=Path, required=True, help="folder to write, replaced if it is there")
    parser.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), help="default: model.dtype")
    parser.add_argument("--push", metavar="NAME", help="send it to this repository of the Hugging Face hub")
    options = parser.parse_args(arguments)
    return reported(lambda: _exported(options))


def _exported(options: argparse.Namespace) -> None:
    export_stage(options.stage, options.to, options.dtype)
    print(f"{options.to}: the model after {options.stage}")
    if options.push:
        print(f"sent to {push(options.to, options.push)}")


if __name__ == "__main__":
    raise SystemExit(main())

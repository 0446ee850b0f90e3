"""Write the model after a stage for use elsewhere: ``anamnesis export STAGE --to FOLDER``.

``STAGE`` is a stage's folder below ``results``. Run it where the workflow ran.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from anamnesis.commands import reported
from anamnesis.core import hub_access
from anamnesis.core.artifacts import SUMS, atomic_directory, read_batches, read_json, write_text
from anamnesis.core.errors import UserError, first_line
from anamnesis.data.catalogue import look_up
from anamnesis.models.cards import CARD, TAGS, Exported, OnHub, model_card, on_hub
from anamnesis.stats.forgetting import SCORED, mean_scores

NO_SCORES = pd.DataFrame(columns=[*SCORED, "value", "n"])


@dataclass(frozen=True)
class Trained:
    """A trained stage and what is known of it. ``record``: its training.json; ``results``: the folder of all
    results; ``prepared``: the record of the model as it came; ``base``: that model on a hub; ``tuning``: the
    adapter of the tuned start, if there is one.
    """

    stage: Path
    record: Mapping
    results: Path
    prepared: Mapping
    base: OnHub | None
    tuning: Path | None


def read_stage(stage: Path, base: OnHub | None = None) -> Trained:
    """The stage in a folder. ``base``: where its base model is on a hub, if that came from elsewhere.

    Raises UserError for a folder that is no trained stage, for files that are gone, and for a stage whose
    model needs more than weights.
    """
    from anamnesis.training.slices import load_part

    if not (stage / "training.json").exists():
        raise UserError(
            f"{stage} is not the folder of a trained stage (no training.json): give one such as "
            "results/<model>/<suite>/<method>/order1/seed0/stage1"
        )
    record = read_json(stage / "training.json")
    snapshot, tuning = Path(record["snapshot"]), None
    results, model = snapshot.parents[1], snapshot.name
    if snapshot.parent.name == "tuned":
        results, model, tuning = snapshot.parents[2], snapshot.parents[1].name, snapshot.parent / "adapter"
    for file in (snapshot, *[tuning] * (tuning is not None), *record["load_order"]):
        if not Path(file).exists():
            raise UserError(f"{file}, which {stage} needs, is not here: run export where the workflow ran")
    own = load_part(record["params"]["method"], "engine")
    if own and own.depends_on_prompt(record["load_order"]):
        raise UserError(
            f"{stage} has latent tasks, which choose other weights for every prompt: no single model is "
            "equal to it; load it as the README of its adapter says"
        )
    about = results / "models" / f"{model}.json"
    prepared = read_json(about) if about.exists() else {}
    base = base or on_hub(prepared.get("source") or record["params"]["model"]["source"])
    return Trained(stage, record, results, prepared, base, tuning)


def export_merged(trained: Trained, to: Path, here: str, dtype: str | None = None) -> None:
    """Write the merged model (safetensors; ``dtype`` None: as it was trained), its tokenizer and a model card
    to the folder ``to``. ``here``: what the card calls the place that it is loaded from.
    """
    from anamnesis.models.loading import load_model, merge_adapters

    record = trained.record
    model, tokenizer = load_model(
        Path(record["snapshot"]), dtype or record["params"]["model"]["dtype"], "cpu"
    )
    model = merge_adapters(model, [Path(adapter) for adapter in record["load_order"]])
    with atomic_directory(to) as folder:
        model.save_pretrained(folder, safe_serialization=True)
        tokenizer.save_pretrained(folder)
        write_text(folder / CARD, model_card(_facts(trained), "transformers", here))


def export_adapter(trained: Trained, to: Path, here: str) -> None:
    """Write one adapter that is equal to all of the chain, and of the tuned start, on the model as it came.
    The folder ``to`` also gets the tokenizer and a model card.

    Raises UserError where no other machine could find the model.
    """
    from anamnesis.models.combining import save_combined
    from anamnesis.models.loading import load_tokenizer

    if trained.base is None:
        source = trained.prepared.get("source") or "another place"
        raise UserError(
            f"--adapter: the base model is from {source}, which PEFT on another machine does not find: leave "
            "--adapter out to export the merged model, or name a repository of the hub that has the same "
            "weights (--base <account>/<name>@<revision>)"
        )
    chain = [*[trained.tuning] * (trained.tuning is not None), *map(Path, trained.record["load_order"])]
    tokenizer = load_tokenizer(Path(trained.record["snapshot"]))
    with atomic_directory(to) as folder:
        save_combined(chain, folder, trained.base)
        tokenizer.save_pretrained(folder)
        write_text(folder / CARD, model_card(_facts(trained), "peft", here))


def push(folder: Path, repository: str) -> str:
    """Send an exported folder to a private or existing ``repository`` of the hub; returns its address.

    Raises UserError without a token, and for whatever the hub refuses.
    """
    from huggingface_hub import HfApi

    check_push(repository)
    try:
        url = HfApi().create_repo(repository, exist_ok=True, private=True)
        HfApi().upload_folder(repo_id=repository, folder_path=folder)
    except Exception as error:  # the library raises many kinds; the user's remedy is in the message
        raise UserError(f"--push {repository}: the hub refused it ({first_line(error)})") from error
    return str(url)


def check_push(repository: str) -> None:
    """Raise UserError for a name that the hub does not take, and where nothing can be sent."""
    from huggingface_hub import get_token
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    try:
        validate_repo_id(repository)
    except HFValidationError as error:
        raise UserError(f"--push {repository}: {first_line(error)}; give <account>/<name>") from None
    if hub_access.is_offline():
        raise UserError(f"--push {repository}: HF_HUB_OFFLINE is set; unset it, and run again")
    if get_token() is None:
        raise UserError(f"--push {repository}: no token; set HF_TOKEN to one that may write, and run again")


def _facts(trained: Trained) -> Exported:
    record, evaluation = trained.record, trained.stage / "evaluation.parquet"
    params, scores, split = record["params"], NO_SCORES, "test"
    if evaluation.exists():
        split = read_json(evaluation.with_suffix(".json")).get("split", split)
        scores = mean_scores(read_batches(evaluation, SCORED), str(evaluation))
    tasks = _tasks(trained)
    facts = [
        f"Method: {params['method']}" + (", guided by instruction vectors" if params["guidance"] else ""),
        f"Stage {record['stage']}, trained with seed {record['seed']} on {record['examples']} examples",
        *[f"Tasks, in the order in which they were learnt: {', '.join(tasks)}"] * bool(tasks),
        f"Learning rate {params['training']['learning_rate']:g}, {params['training']['epochs']} epochs, "
        f"batches of {params['training']['batch_size']}",
    ]
    name = params["model"]["name"].partition(" (")[0]  # the path of a tuned model holds here only
    title = "-".join(part for part in (name.partition(",")[0], *trained.stage.parts[-4:]) if part)
    datasets = dict.fromkeys(r for task in tasks if (r := _repository(trained.results, task)))
    licence = trained.prepared.get("licence", {})
    return Exported(title, name, facts, scores, split, trained.base, list(datasets), licence)


def _tasks(trained: Trained) -> list[str]:
    """What the chain has learnt up to the stage, as far as its records say."""
    stages = (trained.stage.with_name(f"stage{k}") for k in range(1, trained.record["stage"]))
    records = [read_json(file) for stage in stages if (file := stage / "training.json").exists()]
    return [record["task"] for record in (*records, trained.record) if "task" in record]


def _repository(results: Path, task: str) -> str | None:
    """The repository of the hub that a task's examples are from."""
    record = results / "tasks" / f"{task}.json"
    if not record.exists() or read_json(record).get("source") != "hub":
        return None
    entry = look_up(task)
    return entry.hub.repository if entry and entry.hub else None


def main(arguments: Sequence[str] | None = None) -> int:
    """Export as the command line says; 1 and one line of error for what cannot be exported."""
    parser = argparse.ArgumentParser(prog="anamnesis export", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("stage", type=Path, help="folder of a stage, results/…/stage<n>")
    parser.add_argument(
        "--to", type=Path, required=True, help="folder to write; an earlier export there is replaced"
    )
    parser.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), help="default: model.dtype")
    parser.add_argument(
        "--adapter",
        action="store_true",
        help="one PEFT adapter for the whole chain, not merged into the model",
    )
    parser.add_argument(
        "--base",
        metavar="NAME",
        help="where the base model is on the hub, <account>/<name>@<revision>; default: model.source",
    )
    parser.add_argument("--push", metavar="NAME", help="send it to this repository of the Hugging Face hub")
    options = parser.parse_args(arguments)
    return reported(lambda: _exported(options))


def _exported(options: argparse.Namespace) -> None:
    _check_options(options)
    base = on_hub(f"hf:{options.base}") if options.base else None
    trained, here = read_stage(options.stage, base), options.push or options.to.name
    if options.adapter:
        export_adapter(trained, options.to, here)
    else:
        export_merged(trained, options.to, here, options.dtype)
    print(f"{options.to}: the {'adapter' if options.adapter else 'model'} after {options.stage}")
    if options.push:
        print(f"sent to {push(options.to, options.push)}")


def _check_options(options: argparse.Namespace) -> None:
    """Raise UserError before anything is computed."""
    to, base = options.to, options.base
    if options.push:
        check_push(options.push)
    if options.adapter and options.dtype:
        raise UserError(
            f"--dtype {options.dtype} is for merged weights: leave it out, or leave out --adapter"
        )
    if base and not re.fullmatch(r"[\w.-]+/[\w.-]+(@[\w./-]+)?", base, re.ASCII):
        raise UserError(f"--base {base}: must be <account>/<name> or <account>/<name>@<revision>")
    if to.exists() and not _is_export(to):
        raise UserError(f"--to {to} is there and was not exported: name a new folder, nothing is replaced")


def _is_export(folder: Path) -> bool:
    """Whether a folder is empty, or what an earlier export wrote."""
    names = {file.name for file in folder.iterdir()} if folder.is_dir() else {""}
    return not names or ({CARD, "tokenizer_config.json"} <= names and SUMS not in names and _has_tags(folder))


def _has_tags(folder: Path) -> bool:
    return f"- {TAGS[0]}\n" in (folder / CARD).read_text(encoding="utf-8", errors="replace")


if __name__ == "__main__":
    raise SystemExit(main())

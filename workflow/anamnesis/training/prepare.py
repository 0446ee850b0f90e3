"""From files to a stage that is ready to be trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from anamnesis.artifacts import read_parquet, read_tensors
from anamnesis.config.methods import METHODS
from anamnesis.data.prompts import Template, generator
from anamnesis.models.loading import load_model, merge_adapters, open_adapter
from anamnesis.prefix.engine import PrefixEngine
from anamnesis.training.adapters import add_adapter
from anamnesis.training.examples import build_examples
from anamnesis.training.stage import Stage
from anamnesis.vectors.instruction import selected_heads


def prepare_stage(
    snapshot: str,
    task: str,
    method: str,
    number: int,
    seed: int,
    model: Mapping,
    training: Mapping,
    settings: Mapping,
    prompts: Mapping[str, str],
    token_budget: int,
    earlier: Sequence[str] = (),
    past: Sequence[str] = (),
    heads: str | None = None,
    vector: str | None = None,
) -> tuple[Stage, int]:
    """The stage, its adapter fresh or continued, and how many prompts of its task were cut.

    ``task``, ``past``: parquet files of the new task and of those before; ``earlier``: adapter folders,
    merged in their order, or the one that is trained on. ``model``, ``training``, ``settings``: sections of
    the configuration. Each stage has a seed, a start and an order of its own.
    """
    needs = METHODS[method]
    stage_seed = int(generator(seed, "stage", number - 1).integers(2**31))
    language_model, tokenizer = load_model(snapshot, model["dtype"], model["device"])
    if needs.own_adapter or not earlier:
        merged = merge_adapters(language_model, [Path(a) for a in earlier])
        tuned = add_adapter(merged, training["lora"], stage_seed)
    else:
        tuned = open_adapter(language_model, Path(earlier[-1]), trainable=True)
    template, room = Template(**prompts), training["max_input_tokens"]
    examples, cut = build_examples(read_parquet(task), tokenizer, template, room)
    before = {
        Path(file).stem: build_examples(read_parquet(file), tokenizer, template, room, new=False)[0]
        for file in past
    }
    ranking = read_parquet(heads, ["layer", "head", "selected"]) if heads else None
    stage = Stage(
        PrefixEngine(tuned),
        tokenizer,
        number,
        examples,
        settings,
        training,
        stage_seed,
        token_budget,
        before,
        [Path(a) for a in earlier],
        [] if ranking is None else selected_heads(ranking),
        read_tensors(vector)["theta"] if vector else None,
        needs.own_adapter,
        Path(snapshot),
    )
    return stage, cut

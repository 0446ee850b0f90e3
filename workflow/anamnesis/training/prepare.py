"""From files to a stage that is ready to be trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from anamnesis.core.artifacts import read_parquet, read_tensors
from anamnesis.data.chat import template_for
from anamnesis.data.prompts import generator
from anamnesis.engine.examples import build_examples
from anamnesis.engine.prefix_engine import PrefixEngine
from anamnesis.models.adapters import add_lora, add_osf
from anamnesis.models.loading import choose_device, load_model, merge_adapters, open_adapter
from anamnesis.training.stage import Stage, per_stage
from anamnesis.training.stage_files import StageFiles
from anamnesis.training.world import World, join_world, shard_frozen_weights
from anamnesis.vectors.instruction import selected_heads

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def prepare_stage(
    files: StageFiles,
    needs: Mapping,
    number: int,
    seed: int,
    model: Mapping,
    training: Mapping,
    settings: Mapping,
    prompts: Mapping,
    batch_tokens: int,
) -> tuple[Stage, int]:
    """(the stage, its adapter fresh or continued; how many prompts of its task were cut).

    ``needs``: ``adapter`` and ``tuner`` of ``slices.Needs``; ``settings``: the method's own section. Each
    stage has a seed, a start and an order of its own.
    """
    stage_seed = int(generator(seed, "stage", number - 1).integers(2**31))
    engine, tokenizer, world = _open_model(files, needs, number, model, training, settings, stage_seed)
    reading = tokenizer, template_for(prompts, tokenizer), training["max_input_tokens"]
    examples, cut = build_examples(read_parquet(files.task), *reading, new=True)
    past = {Path(f).stem: build_examples(read_parquet(f), *reading, new=False)[0] for f in files.past}
    return Stage(
        engine=engine,
        tokenizer=tokenizer,
        number=number,
        examples=examples,
        settings=settings,
        training=training,
        seed=stage_seed,
        chain_seed=seed,
        batch_tokens=batch_tokens,
        past=past,
        earlier=[Path(a) for a in files.earlier],
        selected=_selected(files.heads),
        theta=read_tensors(files.vector)["theta"] if files.vector else None,
        snapshot=Path(files.snapshot),
        world=world,
        task=Path(files.task).stem,
    ), cut


def _selected(heads: str | None) -> Sequence[tuple[int, int]]:
    """The selected heads of the ranking, if there is one."""
    return () if heads is None else selected_heads(read_parquet(heads, ["layer", "head", "selected"]))


def _open_model(
    files: StageFiles,
    needs: Mapping,
    number: int,
    model: Mapping,
    training: Mapping,
    settings: Mapping,
    seed: int,
) -> tuple[PrefixEngine, PreTrainedTokenizerBase, World]:
    """(engine of the model with the stage's adapter, tokenizer, the processes that train it)."""
    device = choose_device(model["device"])
    world = join_world(device)
    world = replace(world, sharded=world.size > 1 and model["gpus"] > 1)
    # A sharded model fits on no single GPU, and only once into the computer's memory.
    with world.in_turn():
        place = "cpu" if world.sharded else device
        language_model, tokenizer = load_model(Path(files.snapshot), model["dtype"], place)
        adapted = _with_adapter(language_model, files.earlier, needs, number, training, settings, seed)
        engine = PrefixEngine(adapted)
        shard_frozen_weights(engine, world)
    return engine, tokenizer, world


def _with_adapter(
    language_model: PreTrainedModel,
    earlier: Sequence[str],
    needs: Mapping,
    number: int,
    training: Mapping,
    settings: Mapping,
    seed: int,
) -> PreTrainedModel:
    """The model with the adapters before the stage, and the stage's own, fresh or continued."""
    if earlier and needs["adapter"] == "continued":
        return open_adapter(language_model, Path(earlier[-1]), trainable=True)
    merged, lora = merge_adapters(language_model, [Path(a) for a in earlier]), training["lora"]
    if needs["tuner"] == "osf":
        return add_osf(merged, lora["target_modules"], per_stage(settings["preserved"], number))
    return add_lora(merged, lora, seed)

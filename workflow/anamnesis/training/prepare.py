"""From files to a stage that is ready to be trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from anamnesis.artifacts import digest_file, digest_json, read_parquet, read_tensors
from anamnesis.config.methods import METHODS
from anamnesis.data.prompts import Template, generator
from anamnesis.models.loading import choose_device, load_model, merge_adapters, open_adapter
from anamnesis.prefix.engine import PrefixEngine
from anamnesis.training.adapters import add_lora, add_osf
from anamnesis.training.examples import build_examples
from anamnesis.training.stage import Stage, of_stage
from anamnesis.training.world import join_world, share_out
from anamnesis.vectors.instruction import selected_heads


@dataclass(frozen=True)
class StageFiles:
    """What a stage is made from.

    ``snapshot``: the base model; ``task``, ``past``: parquet files of the new task and of those before, if
    the method may see them; ``earlier``: adapter folders, merged in their order, or the one that is trained
    on;
    ``heads``: the ranking; ``vector``, ``mean``: the task's instruction vector and mean activations;
    ``prompt_table``: its in-context prompts.
    """

    snapshot: str
    task: str
    earlier: Sequence[str] = ()
    past: Sequence[str] = ()
    heads: str | None = None
    vector: str | None = None
    mean: str | None = None
    prompt_table: str | None = None

    def identity(self, settings: Sequence) -> str:
        """Digest of all that determines a stage: only a checkpoint of the very same one may be continued."""
        read = [self.task, *self.past, self.heads, self.vector, self.mean, self.prompt_table]
        weights = [file for a in self.earlier for file in sorted(Path(a).rglob("*.safetensors"))]
        # a snapshot is replaced as a whole, and its weights may be huge
        made = Path(self.snapshot).stat().st_mtime_ns
        files = [digest_file(file) if file else None for file in [*read, *weights]]
        return digest_json([list(settings), made, files])[:16]


def prepare_stage(
    files: StageFiles,
    method: str,
    number: int,
    seed: int,
    model: Mapping,
    training: Mapping,
    settings: Mapping,
    prompts: Mapping[str, str],
    token_budget: int,
) -> tuple[Stage, int]:
    """The stage, its adapter fresh or continued, and how many prompts of its task were cut.

    ``model``, ``training``, ``settings``, ``prompts``: sections of the configuration, the third the method's
    own. Each stage has a seed, a start and an order of its own.
    """
    needs, earlier = METHODS[method], [Path(a) for a in files.earlier]
    stage_seed = int(generator(seed, "stage", number - 1).integers(2**31))
    device = choose_device(model["device"])
    world = join_world(device)

    def open_engine(where: str):
        language_model, tokenizer = load_model(files.snapshot, model["dtype"], where)
        if earlier and not needs.own_adapter:
            tuned = open_adapter(language_model, earlier[-1], trainable=True)
        elif needs.tuner == "osf":
            preserved = of_stage(settings["preserved"], number)
            merged = merge_adapters(language_model, earlier)
            tuned = add_osf(merged, training["lora"]["target_modules"], preserved)
        else:
            tuned = add_lora(merge_adapters(language_model, earlier), training["lora"], stage_seed)
        return PrefixEngine(tuned), tokenizer

    if model["gpus"] > 1:  # no GPU holds the model, and the computer's memory holds it once
        with world.in_turn():
            engine, tokenizer = open_engine("cpu")
            share_out(engine, world)
        world = replace(world, shared_out=True)
    else:
        engine, tokenizer = open_engine(device)

    def examples_of(file: str, new: bool):
        template, room = Template(**prompts), training["max_input_tokens"]
        return build_examples(read_parquet(file), tokenizer, template, room, new)

    examples, cut = examples_of(files.task, True)
    ranking = read_parquet(files.heads, ["layer", "head", "selected"]) if files.heads else None
    stage = Stage(
        engine=engine,
        tokenizer=tokenizer,
        number=number,
        examples=examples,
        settings=settings,
        training=training,
        seed=stage_seed,
        token_budget=token_budget,
        past={Path(file).stem: examples_of(file, False)[0] for file in files.past},
        earlier=earlier,
        selected=() if ranking is None else selected_heads(ranking),
        theta=read_tensors(files.vector)["theta"] if files.vector else None,
        own_adapter=needs.own_adapter,
        snapshot=Path(files.snapshot),
        world=world,
    )
    return stage, cut

"""From files to a stage that is ready to be trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from anamnesis.config.methods import METHODS
from anamnesis.core.artifacts import digest_file, digest_json, read_parquet, read_tensors
from anamnesis.data.chat import template_for
from anamnesis.data.prompts import generator
from anamnesis.engine.examples import build_examples
from anamnesis.engine.prefix_engine import PrefixEngine
from anamnesis.models.adapters import add_lora, add_osf
from anamnesis.models.loading import choose_device, load_model, merge_adapters, open_adapter
from anamnesis.training.stage import Stage, of_stage
from anamnesis.training.world import join_world, share_out
from anamnesis.vectors.instruction import selected_heads


@dataclass(frozen=True)
class StageFiles:
    """What a stage is made from.

    ``snapshot``: the base model; ``task``, ``past``: parquet files of the new task and of the others whose
    examples the method may see (``Stage.past``); ``earlier``: adapter folders, merged in their order, or the
    one that is trained on; ``heads``: the ranking; ``vector``, ``mean``: the task's instruction vector and
    mean activations; ``prompt_table``: its in-context prompts; ``task_means``: mean activations on other
    training tasks.
    """

    snapshot: str
    task: str
    earlier: Sequence[str] = ()
    past: Sequence[str] = ()
    heads: str | None = None
    vector: str | None = None
    mean: str | None = None
    prompt_table: str | None = None
    task_means: Sequence[str] = ()

    def identity(self, settings: Sequence) -> str:
        """Digest of all that determines a stage: only a checkpoint of the very same one may be continued."""
        guiding = [self.heads, self.vector, self.mean, self.prompt_table, *self.task_means]
        weights = [file for a in self.earlier for file in sorted(Path(a).rglob("*.safetensors"))]
        # a snapshot is replaced as a whole, and its weights may be huge
        made = Path(self.snapshot).stat().st_mtime_ns
        files = [digest_file(file) if file else None for file in [self.task, *self.past, *guiding, *weights]]
        return digest_json([list(settings), made, files])[:16]


def prepare_stage(
    files: StageFiles,
    method: str,
    number: int,
    seed: int,
    model: Mapping,
    training: Mapping,
    settings: Mapping,
    prompts: Mapping,
    token_budget: int,
) -> tuple[Stage, int]:
    """The stage, its adapter fresh or continued, and how many prompts of its task were cut.

    ``model``, ``training``, ``settings``, ``prompts``: sections of the configuration, the third the method's
    own. Each stage has a seed, a start and an order of its own.
    """
    stage_seed = int(generator(seed, "stage", number - 1).integers(2**31))
    device = choose_device(model["device"])
    world = join_world(device)
    world = replace(world, shared_out=world.size > 1 and model["gpus"] > 1)

    with world.in_turn():  # no GPU holds a model that is shared out, and the computer's memory holds it once
        place = "cpu" if world.shared_out else device
        language_model, tokenizer = load_model(files.snapshot, model["dtype"], place)
        engine = PrefixEngine(
            _with_adapter(language_model, files, method, number, training, settings, stage_seed)
        )
        share_out(engine, world)

    def examples_of(file: str, new: bool):
        template, room = template_for(prompts, tokenizer), training["max_input_tokens"]
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
        chain_seed=seed,
        token_budget=token_budget,
        past={Path(file).stem: examples_of(file, False)[0] for file in files.past},
        earlier=[Path(a) for a in files.earlier],
        selected=() if ranking is None else selected_heads(ranking),
        theta=read_tensors(files.vector)["theta"] if files.vector else None,
        own_adapter=METHODS[method].own_adapter,
        snapshot=Path(files.snapshot),
        world=world,
        task=Path(files.task).stem,
    )
    return stage, cut


def _with_adapter(
    language_model,
    files: StageFiles,
    method: str,
    number: int,
    training: Mapping,
    settings: Mapping,
    seed: int,
):
    """The model with the adapters before the stage, and the stage's own, fresh or continued."""
    needs, earlier = METHODS[method], [Path(a) for a in files.earlier]
    if earlier and not needs.own_adapter:
        return open_adapter(language_model, earlier[-1], trainable=True)
    merged, lora = merge_adapters(language_model, earlier), training["lora"]
    if needs.tuner == "osf":
        return add_osf(merged, lora["target_modules"], of_stage(settings["preserved"], number))
    return add_lora(merged, lora, seed)

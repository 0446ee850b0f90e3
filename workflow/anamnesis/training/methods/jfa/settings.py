"""The settings of joint flashback adaptation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from anamnesis.core.fields import Encoder, Flag, Integer, Name, Number, Section
from anamnesis.training.slices import Needs, Slice


class Jfa(Section):
    """Joint flashback adaptation (arXiv 2505.15467)."""

    flashbacks: Integer = Field(
        32,
        ge=0,
        description="Prompts of every earlier task and of each of flashback_tasks, without answers, >= 0. "
        "Its paper: 0 to 32.",
    )
    flashback_tasks: tuple[Name, ...] | None = Field(
        None,
        min_length=1,
        description="Sets whose training prompts are flashbacks from the first stage on: what the model can "
        "do before training, as in its paper. null: none, only the tasks learnt before. One of the training "
        "tasks counts once, and not while it is learnt. Authors' code: GSM8K, SVAMP, ARC-Challenge, "
        "MMLU-Pro, BIG-Bench Hard.",
    )
    flashbacks_per_step: Integer = Field(
        2,
        ge=1,
        description="Flashbacks in each step, >= 1. Cost: two forward passes and a backward pass of so many "
        "prompts a step.",
    )
    alpha: Number = Field(
        1.0, ge=0, description="Weight of the flashback divergence, >= 0. Authors' code: 1."
    )
    reduction: Literal["mean", "sum"] = Field(
        "mean", description="Over the positions of a flashback: mean, or sum (authors' code)."
    )
    divergence: Literal["symmetric", "released"] = Field(
        "symmetric",
        description="symmetric (both directions; its paper) or released (twice KL(before || now); authors' "
        "code).",
    )
    latent_tasks: Flag = Field(True, description="Whether latent tasks are learnt and retrieved.")
    pool: Integer = Field(24, ge=1, description="Latent tasks in the pool, >= 1. Authors' code: 24.")
    nearest: Integer = Field(
        2, ge=1, description="Latent tasks retrieved for a prompt, k >= 1. Authors' code: 2."
    )
    segments: Integer = Field(4, ge=1, description="Segments of a key, >= 1. Authors' code: 4.")
    centred: Flag = Field(
        True,
        description="Whether the mean over the first task's prompts is taken off what the encoder returns; "
        "without, all prompts are alike to it and retrieve the same few. Authors' code: false.",
    )
    latent_rank: Integer = Field(8, ge=1, description="Rank of an increment, >= 1. Authors' code: 8.")
    latent_layers: tuple[Annotated[Integer, Field(ge=0)], ...] | None = Field(
        None,
        min_length=1,
        description="Layers whose output projection gets increments, counted from 0; null: the middle one.",
    )
    encoder: Encoder = Field(
        "self",
        description="What encodes prompts: self (the model's own mean hidden states), path:<directory> or "
        "hf:<id>@<revision>. Authors' code: RoBERTa-base.",
    )
    encoder_layer: Integer | None = Field(
        None,
        ge=0,
        description="Layer of the hidden states that are averaged, counted from 0; null: the middle one.",
    )
    projection: Literal["pcgrad", "agem", "released", "none"] = Field(
        "pcgrad",
        description="Gradients of the two losses: pcgrad (its paper), agem (only the new task's is "
        "projected), released (running sums, as in the authors' code) or none (added).",
    )


def problems(settings: Mapping, name: str, stages: int) -> Iterable[str]:
    """More latent tasks retrieved than there are."""
    if settings["nearest"] > settings["pool"]:
        yield (
            f"methods.jfa.nearest = {settings['nearest']} (for {name}): the pool has only methods.jfa.pool = "
            f"{settings['pool']} latent tasks; lower the one or raise the other"
        )


def process_problems(settings: Mapping, name: str, processes: int, gpus: int) -> Iterable[str]:
    """Latent tasks of a model on several GPUs."""
    if gpus > 1 and settings["latent_tasks"]:
        yield (
            f"methods.jfa.latent_tasks = true (for {name}): prompts are encoded by a whole model on one GPU; "
            f"set it to false, or model.gpus = {gpus} to 1"
        )


def extra_work(stage: Any, settings: Mapping) -> Any:
    """Prefixes that latent tasks keep from being shared, and flashbacks."""
    # From the first layer with latent tasks on, by default the middle one, prompts share no prefix; with
    # guidance they share none at all, as it adds something below that layer.
    apart = 0.5 if settings["latent_layers"] is None and not stage.guided else 1.0
    alone = stage.trained(stage.examples * stage.task.shared * apart * settings["latent_tasks"], keys=0.0)
    if not stage.past or not settings["flashbacks"]:
        return alone
    prompt = sum(past.instruction + past.question for past in stage.past) / len(stage.past)
    shown = stage.steps * settings["flashbacks_per_step"]
    return alone + stage.work(2 * shown * prompt, 3 * shown * prompt, prompt / 2)


SLICE = Slice(
    colours=("#ddaa77", "#225555"),
    needs=Needs(past=True),
    settings=Jfa,
    problems=problems,
    process_problems=process_problems,
    extra_work=extra_work,
)

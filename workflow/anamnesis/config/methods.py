"""The training methods: what each needs, and the settings of each.

"Paper" is the paper of the method named; "authors' code" what was released with arXiv 2406.12227 or, for jfa
and fvg, with their own papers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field

from anamnesis.core.fields import Encoder, Flag, Integer, Name, NotNegative, Number, Section, Share
from anamnesis.core.names import GUIDED_SUFFIX


@dataclass(frozen=True)
class Needs:
    """What a method's stages are made from.

    ``own_adapter``: a new adapter for each stage, on the model with the earlier ones merged; otherwise one
    adapter goes through all stages. ``tuner``: what PEFT calls the kind of adapter. ``past``: examples of the
    tasks learnt before. ``vector``: the head set and the new task's instruction vector.
    """

    own_adapter: bool = True
    tuner: Literal["lora", "osf"] = "lora"
    past: bool = False
    vector: bool = False


METHODS = {
    "inclora": Needs(),
    "seqlora": Needs(own_adapter=False),
    "ewc": Needs(own_adapter=False),
    "lwf": Needs(),
    "olora": Needs(),
    "osf": Needs(tuner="osf"),
    "replay": Needs(past=True),
    "fvg": Needs(vector=True),
    "jfa": Needs(past=True),
}

METHOD_NAMES = tuple(name + suffix for name in METHODS for suffix in ("", GUIDED_SUFFIX))
"""Everything ``training.methods`` may list besides variants."""


class Ewc(Section):
    """Elastic weight consolidation (arXiv 1612.00796)."""

    rank: Integer | None = Field(
        None,
        ge=1,
        description="Rank of the one adapter (>= 1), with alpha raised alike; null: training.lora.rank. "
        "Paper 2406.12227: 48 or 60.",
    )
    strength: Number = Field(
        4000.0, ge=0, description="lambda of lambda/2 sum F (theta - theta*)^2 (>= 0). Authors' code: 4000."
    )
    fisher_examples: Integer = Field(
        50, ge=1, description="Training examples the Fisher information is averaged over (>= 1)."
    )
    merge: Literal["sum", "mean", "online"] = Field(
        "sum",
        description="Fisher information of several tasks: their sum (a penalty for each task), the mean of "
        "old and new (authors' code), or online: decay times the old plus the new.",
    )
    decay: Number = Field(0.9, ge=0, le=1, description="Weight of the old one when merged online, in [0, 1].")


class Lwf(Section):
    """Learning without forgetting (arXiv 1606.09282)."""

    weight: Number = Field(1.0, ge=0, description="Weight of the distillation (>= 0).")
    positions: Literal["all", "output", "last_prompt"] = Field(
        "output", description="Token positions compared: those of the answer, all, or the prompt's last."
    )
    direction: Literal["student_teacher", "teacher_student"] = Field(
        "teacher_student", description="KL(teacher || student), as in the paper, or the reverse."
    )
    temperature: Number = Field(2.0, gt=0, description="Softmax temperature of both sides (> 0). Paper: 2.")
    temperature_squared: Flag = Field(
        True, description="Whether the term is multiplied by the temperature squared."
    )
    reduction: Literal["sum", "mean"] = Field(
        "mean", description="Over the positions of an example; over examples: mean."
    )


class Olora(Section):
    """Orthogonal low-rank adaptation (arXiv 2310.14152)."""

    lambda1: NotNegative | tuple[NotNegative, ...] = Field(
        0.5,
        description="Weight of the overlap with earlier adapters (>= 0): one number, or a list with one for "
        "each stage. Paper: 0.5, up to 5.",
    )
    lambda2: NotNegative | tuple[NotNegative, ...] = Field(
        0.0, description="Weight of the new adapter's norm (>= 0): a number or a list. Paper: 0 to 0.3."
    )


class Osf(Section):
    """Orthogonal subspace fine-tuning (arXiv 2504.07097), as PEFT has it."""

    preserved: Share | tuple[Share, ...] = Field(
        0.5,
        description="Share of each weight's singular directions, the largest first, that stay as they are, "
        "in (0, 1): one number, or a list with one for each stage. PEFT: 0.5.",
    )


class Replay(Section):
    """Experience replay."""

    share: Number = Field(
        0.1, gt=0, le=1, description="Share of every earlier task's training examples, in (0, 1]. TRACE: 0.1."
    )
    when: Literal["mixed", "after"] = Field(
        "mixed", description="Mixed into the stage's batches, or trained on after them (TRACE)."
    )


class Fvg(Section):
    """Function-vector guided training (arXiv 2502.11019)."""

    consistency: Number = Field(
        1.0, ge=0, description="Weight of the heads' squared change over S. Authors' code: 1."
    )
    kl_last: Number = Field(
        1.0, ge=0, description="Weight of the KL at the last prompt token. Authors' code: 1 or 20."
    )
    kl_all: Number = Field(
        0.1, ge=0, description="Weight of the KL over all positions. Authors' code: 0.1 or 0.5."
    )
    temperature: Number = Field(2.0, gt=0, description="Softmax temperature of both sides. Authors' code: 2.")
    layer: Integer | None = Field(
        None,
        ge=0,
        description="Layer to whose attention output the vector is added; null: at 9/32 of the depth. "
        "Authors' code: 9 of 32.",
    )
    gates: Flag = Field(
        False,
        description="Whether terms below a threshold (0.01 per head, 0.1 per KL) are dropped. Authors' code: "
        "yes.",
    )


class Jfa(Section):
    """Joint flashback adaptation (arXiv 2505.15467)."""

    flashbacks: Integer = Field(
        32,
        ge=0,
        description="Prompts of every earlier task and of each of flashback_tasks, without answers (>= 0). "
        "Paper: 0 to 32.",
    )
    flashback_tasks: tuple[Name, ...] | None = Field(
        None,
        min_length=1,
        description="Sets whose training prompts are flashbacks from the first stage on, as many of each as "
        "of an earlier task: abilities that the model has before training; null: none. Authors' code: "
        "GSM8K, SVAMP, ARC-Challenge, MMLU-Pro, BIG-Bench Hard.",
    )
    flashbacks_per_step: Integer = Field(2, ge=1, description="Flashbacks in each step (>= 1).")
    alpha: Number = Field(1.0, ge=0, description="Weight of the flashback divergence. Authors' code: 1.")
    reduction: Literal["mean", "sum"] = Field(
        "mean", description="Over the positions of a flashback. Authors' code: sum."
    )
    divergence: Literal["symmetric", "released"] = Field(
        "symmetric", description="Both directions (paper), or twice KL(before || now) (authors' code)."
    )
    latent_tasks: Flag = Field(True, description="Whether latent tasks are learnt and retrieved.")
    pool: Integer = Field(24, ge=1, description="Latent tasks in the pool (>= 1). Authors' code: 24.")
    nearest: Integer = Field(2, ge=1, description="Latent tasks retrieved, k (>= 1). Authors' code: 2.")
    segments: Integer = Field(4, ge=1, description="Segments of a key (>= 1). Authors' code: 4.")
    centred: Flag = Field(
        True,
        description="Whether the mean over the first task's prompts is taken off what the encoder returns: "
        "without, all prompts are alike and retrieve the same few. Authors' code: no.",
    )
    latent_rank: Integer = Field(8, ge=1, description="Rank of an increment (>= 1). Authors' code: 8.")
    latent_layers: tuple[Annotated[Integer, Field(ge=0)], ...] | None = Field(
        None,
        min_length=1,
        description="Layers whose output projection gets increments; null: the middle one.",
    )
    encoder: Encoder = Field(
        "self",
        description="What encodes prompts: self (the model's own mean hidden states), path:<directory> or "
        "hf:<id>@<revision>. Authors' code: RoBERTa-base.",
    )
    encoder_layer: Integer | None = Field(
        None, ge=0, description="Layer of the hidden states; null: the middle one."
    )
    projection: Literal["pcgrad", "agem", "released", "none"] = Field(
        "pcgrad",
        description="How the gradients of the two losses are combined: PCGrad (paper), A-GEM (only the new "
        "task's is projected), released (running sums, as in the authors' code), or none: added.",
    )


class Methods(Section):
    """Settings of the training methods that have any, by method."""

    ewc: Ewc = Field(default_factory=Ewc, description="Elastic weight consolidation.")
    lwf: Lwf = Field(default_factory=Lwf, description="Learning without forgetting.")
    olora: Olora = Field(default_factory=Olora, description="Orthogonal low-rank adaptation.")
    osf: Osf = Field(default_factory=Osf, description="Orthogonal subspace fine-tuning.")
    replay: Replay = Field(default_factory=Replay, description="Experience replay.")
    fvg: Fvg = Field(default_factory=Fvg, description="Function-vector guided training.")
    jfa: Jfa = Field(default_factory=Jfa, description="Joint flashback adaptation.")


class Variant(Section):
    """A method under other settings: what is given here replaces the experiment's own."""

    of: Annotated[Name, Field(json_schema_extra={"enum": list(METHOD_NAMES)})] = Field(
        description="The method it is a variant of."
    )
    training: dict[str, Any] = Field(
        default_factory=dict, description="Keys of the section training, such as {lora: {rank: 48}}."
    )
    guidance: dict[str, Any] = Field(
        default_factory=dict, description="Keys of the section guidance, such as {control: random_heads}."
    )
    settings: dict[str, Any] = Field(
        default_factory=dict, description="Keys of the method's own section, such as {flashbacks: 0}."
    )
    against: tuple[Name, ...] = Field(
        (), description="Methods it is compared with, besides the one it is a variant of."
    )

"""Settings of the mechanisms of forgetting (arXiv 2601.18699); its paper leaves nearly all of them open."""

from __future__ import annotations

from pydantic import Field

from anamnesis.core.fields import Integer, Name, Number, Section, Seed, Text


class Cutoffs(Section):
    """From where on a head counts as disrupted; the whole distribution is shown as well."""

    attention: Number = Field(
        0.1, gt=0, lt=1, description="Jensen-Shannon divergence of its attention, in bits, in (0, 1)."
    )
    output: Number = Field(0.1, gt=0, lt=2, description="1 - cosine of its output, in (0, 2).")


class Curvature(Section):
    """The Hessian of the first task's loss, and a slice through that loss."""

    examples: Integer = Field(
        4, ge=1, description="Examples the loss is the mean over, >= 1. Cost: proportional to it."
    )
    layer: Integer | None = Field(
        None,
        ge=0,
        description="Layer whose attention matrices are the base subset, counted from 0; null: the middle "
        "one.",
    )
    tolerance: Number = Field(
        0.05, gt=0, lt=1, description="Relative accuracy of the largest eigenvalue, in (0, 1)."
    )
    vectors: Integer = Field(
        8, ge=1, description="Random vectors for the trace, >= 1. Cost: a product with the Hessian each."
    )
    radius: Number = Field(
        0.5, gt=0, description="Largest step of the slice, > 0, in lengths of the weights' rows."
    )
    points: Integer = Field(7, ge=3, description="Steps of the slice, >= 3. Cost: a forward pass each.")


class Mechanisms(Section):
    """Why the model forgets, after every stage (arXiv 2601.18699): measured by `snakemake mechanisms`, not by
    a plain run. The paper leaves nearly all of this open; docs/explanation/mechanisms.md has the definitions.
    """

    methods: tuple[Name, ...] | None = Field(
        None,
        min_length=1,
        description="Methods measured, out of training.methods; null: all but osf and jfa with latent tasks.",
    )
    seeds: tuple[Seed, ...] | None = Field(
        None,
        min_length=1,
        description="Seeds measured, of training.seeds; null: the first. Cost: proportional to their number.",
    )
    probes: Integer = Field(
        4,
        ge=2,
        description="Probes of each set, >= 2: groups of examples whose gradients are compared; none of "
        "them are test examples.",
    )
    probe_examples: Integer = Field(
        2, ge=1, description="Examples in each probe, >= 1. Cost: time is proportional to both."
    )
    matrices: tuple[Text, ...] = Field(
        ("q_proj", "k_proj", "v_proj", "o_proj"),
        min_length=1,
        description="Linear layers of attention whose gradients are compared, by name: W_q, W_k, W_v and "
        "W_o.",
    )
    subspace: Integer = Field(
        10, ge=1, description="Principal components of the subspaces whose rotation is measured, >= 1."
    )
    cutoffs: Cutoffs = Field(default_factory=Cutoffs)
    curvature: Curvature = Field(default_factory=Curvature)

"""A stage's method and what it minimises, put together. Only the method that is asked for is imported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from anamnesis.core.artifacts import read_tensors
from anamnesis.core.errors import given
from anamnesis.training.distillation import Distillation, KlSettings
from anamnesis.training.guidance import Additions, Intervention, at_last_prompt_token, guided_additions, norm
from anamnesis.training.method import Method
from anamnesis.training.objectives import Objective
from anamnesis.training.prepare import prepare_stage
from anamnesis.training.slices import load_part
from anamnesis.training.stage import Stage
from anamnesis.training.stage_files import StageFiles

if TYPE_CHECKING:
    from anamnesis.training.reference import Reference


@dataclass(frozen=True)
class BuiltStage:
    """A stage that can be trained: its ``method`` and ``objective``; ``prompts_cut``, how many prompts of its
    task were too long; ``added_norm``, the length of what guidance adds to the residual stream, None without.
    """

    method: Method
    objective: Objective
    prompts_cut: int
    added_norm: float | None


def build_from_files(name: str, files: StageFiles, guidance: Mapping | None, **stage: Any) -> BuiltStage:
    """The method called ``name`` for the stage of ``files``. ``guidance``: the section of the configuration,
    or None; ``stage``: the further arguments of ``prepare.prepare_stage``.
    """
    prepared, cut = prepare_stage(files, **stage)
    additions = added = None
    if guidance:
        heads, mean = given(files.heads, "a ranking of heads"), given(files.mean, "the mean activations")
        additions = guided_additions(prepared, guidance, heads, mean, files.prompt_table, files.task_means)
        added = norm(prepared.engine.geometry, additions, read_tensors(mean).get("scale"))
    return BuiltStage(*build(name, prepared, guidance, additions), cut, added)


def method_class(name: str) -> type[Method]:
    """The class of a method; that of plain training for one without a class of its own."""
    module = load_part(name, "method")
    return Method if module is None else module.METHOD


def build(
    name: str, stage: Stage, guidance: Mapping | None = None, additions: Additions | None = None
) -> tuple[Method, Objective]:
    """The method called ``name`` for a stage, and what it minimises there.

    ``guidance``: the section of the configuration, with its ``additions`` (``guidance.guided_additions``).
    """
    method = method_class(name)(stage)
    method.stage = stage = replace(method.stage, seen=method.seen())  # a method may furnish its stage
    terms, intervention = list(method.terms()), None
    if guidance is not None:
        additions = given(additions, "what guidance adds")
        terms += _divergence(stage, guidance, additions)
        if guidance["intervention"]:
            how = guidance["schedule"], guidance["plateau"], guidance.get("share", 1.0)
            intervention = Intervention(additions, *how, seed=stage.seed)
    objective = method.objective(terms, intervention)
    objective.world = stage.world
    return method, objective


def _divergence(stage: Stage, guidance: Mapping, additions: Additions) -> list[Distillation]:
    """The term of eq. 4, if it has a weight."""
    kl = KlSettings(**{k: v for k, v in guidance["kl"].items() if k != "teacher"})
    if not kl.weight:
        return []
    teacher: Reference | Additions
    if guidance["kl"]["teacher"] == "current":
        teacher = dict(additions)
    else:
        geometry = stage.engine.geometry
        teacher = stage.reference(lambda pack: at_last_prompt_token(geometry, additions, pack))
    return [Distillation("kl", kl, teacher)]

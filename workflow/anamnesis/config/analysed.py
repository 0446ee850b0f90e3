"""What the section ``analyses`` comes to, with its nulls filled in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from anamnesis.config.models import Config
from anamnesis.config.variants import resolve
from anamnesis.core.errors import UserError, unknown
from anamnesis.data.places import find_task

INTERVENED = 4  # sets of figure 6 of arXiv 2406.12227


@dataclass(frozen=True)
class Analysed:
    """``methods`` and ``seeds`` whose chains are followed in all orders, ``stages`` (1, 2, ...) and
    ``sets``; ``interventions``: sets intervened on besides ``interventions.sets``.
    """

    methods: tuple[str, ...]
    seeds: tuple[int, ...]
    stages: tuple[int, ...]
    sets: tuple[str, ...]
    interventions: tuple[str, ...]


def analysed(config: Config) -> Analysed:
    """The choice of a configuration without problems."""
    asked, suite = config.analyses, [*config.suite.orders[0], *config.suite.held_out]
    followed = tuple(name for name in config.training.methods if not has_latent_tasks(config, name))
    sets = tuple(name for name in config.interventions.sets if name in suite)
    return Analysed(
        asked.methods or followed,
        asked.seeds or config.training.seeds[:1],
        tuple(sorted(asked.stages or range(1, len(config.suite.orders[0]) + 1))),
        asked.sets or sets or config.suite.held_out,
        _further_interventions(config),
    )


def _further_interventions(config: Config) -> tuple[str, ...]:
    if config.analyses.interventions is not None:
        return config.analyses.interventions
    there = config.interventions.sets
    further = [name for name in (*config.suite.held_out, *config.suite.orders[0]) if name not in there]
    return tuple(further[: max(0, INTERVENED - len(there))])


def paraphrased(config: Config) -> dict[str, tuple[str, ...]]:
    """Held-out sets and followed sets -> other wordings of their instructions, for those that have any: of
    ``analyses.paraphrases``, or of the built-in task.
    """
    from anamnesis.data.paraphrases import builtin_paraphrases

    own, data, known = config.analyses.paraphrases, config.data.model_dump(mode="json"), builtin_paraphrases()
    found = {}
    for name in dict.fromkeys([*config.suite.held_out, *analysed(config).sets]):
        builtin = known.get(name, ()) if find_task(name, data).kind == "built-in" else ()
        if wordings := own.get(name, builtin):
            found[name] = wordings
    return found


def held_out_sets(config: Config) -> tuple[str, ...]:
    """The sets followed that are never trained on; all of them where there is none."""
    followed = analysed(config).sets
    return tuple(name for name in followed if name in config.suite.held_out) or followed


def has_latent_tasks(config: Config, name: str) -> bool:
    """Whether a method's weights differ from prompt to prompt, so that no vector or map is the model's."""
    return bool(resolve(config, name).settings.get("latent_tasks"))


def analyses_problems(config: Config) -> Iterator[str]:
    """Contradictions between ``analyses`` and the other sections, one message each."""
    asked, stages = config.analyses, len(config.suite.orders[0])
    suite = [*config.suite.orders[0], *config.suite.held_out]
    for key, kind, chosen, known in (
        ("methods", "method", asked.methods, config.training.methods),
        ("seeds", "seed", asked.seeds, config.training.seeds),
        ("sets", "set", asked.sets, suite),
        ("interventions", "set", asked.interventions, suite),
        ("stages", "stage", asked.stages, range(1, stages + 1)),
        ("paraphrases", "set", asked.paraphrases, suite),
        ("within_stage.stages", "stage", asked.within_stage.stages, range(1, stages + 1)),
    ):
        for value in chosen or ():
            if value not in known:
                yield f"analyses.{key}: {unknown(kind, value, [*known])}"
    for name in asked.methods or ():
        try:
            latent = has_latent_tasks(config, name)
        except UserError:
            continue  # said of training.methods or variants
        if latent:
            yield (
                f"analyses.methods lists {name}, whose latent tasks make another model of every prompt: "
                "leave it out, or set methods.jfa.latent_tasks to false"
            )

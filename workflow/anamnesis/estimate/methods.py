"""What methods add to the work of plain training: forward passes of the reference model, further examples.

A function needs nothing but the stage and the method's settings, so that it can live with its method.
"""

from __future__ import annotations

from collections.abc import Mapping

from anamnesis.estimate.work import Stage, Work


def _ewc(stage: Stage, settings: Mapping) -> Work:
    """Gradients of the examples that the Fisher information is averaged over."""
    share = min(1.0, settings["fisher_examples"] / max(1, stage.task.train))
    return stage.trained(share * stage.once.tokens, share * stage.once.rows)


def _lwf(stage: Stage, settings: Mapping) -> Work:
    """The reference model on every example once, and both models' rows that are compared."""
    task = stage.task
    rows = task.answer if settings["positions"] == "output" else task.own(0) + task.answer
    return stage.work(stage.once.tokens, 2 * stage.examples * rows)


def _fvg(stage: Stage, settings: Mapping) -> Work:
    """The reference model on every example once, and the rows that are compared, forward and backward."""
    task = stage.task
    rows = task.own(0) + task.answer if settings["kl_all"] else 1.0
    return stage.work(stage.once.tokens + task.train, 3 * stage.examples * rows)


def _replay(stage: Stage, settings: Mapping) -> Work:
    """A share of the examples of every earlier task."""
    return stage.trained(
        stage.epochs * sum(settings["share"] * past.train * past.example for past in stage.past)
    )


def _jfa(stage: Stage, settings: Mapping) -> Work:
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


EXTRA_WORK = {"ewc": _ewc, "lwf": _lwf, "fvg": _fvg, "replay": _replay, "jfa": _jfa}

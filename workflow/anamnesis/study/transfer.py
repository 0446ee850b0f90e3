"""Two models compared by a study of each, such as a model and what fine-tuning made of it."""

from __future__ import annotations

import pandas as pd
import torch

from anamnesis.core.errors import UserError
from anamnesis.study.tasks import Study


def compare(first: Study, second: Study) -> pd.DataFrame:
    """A row for each head of each task of both studies: ``task, layer, head, cosine`` (of its mean outputs in
    the two models), ``effect_first``, ``effect_second`` (mean causal effects on the task's prompts).

    Raises UserError for models of different shapes, and for studies without a common task, with other prompts
    for it, or with effects on another scale.
    """
    if first.rank_by != second.rank_by:
        raise UserError(
            f"the studies have effects on different scales ({first.rank_by}, {second.rank_by}): make both "
            "with one rank_by"
        )
    common = [name for name in first.prompts if name in second.prompts]
    if not common:
        raise UserError(
            f"the studies have no task in common ({', '.join(first.prompts)} and {', '.join(second.prompts)})"
        )
    frames = []
    for task in common:
        if list(first.prompts[task]["text"]) != list(second.prompts[task]["text"]):
            raise UserError(
                f"the studies have different prompts of the task '{task}': make the second with repeat, or "
                "from the same pairs, instruction and seed"
            )
        a, b = first.activations[task].mean, second.activations[task].mean
        if a.shape != b.shape:
            raise UserError(
                f"the models have (layers, heads, head size) {tuple(a.shape)} and {tuple(b.shape)}: compare "
                "models of one shape"
            )
        places = pd.MultiIndex.from_product(map(range, a.shape[:2]), names=["layer", "head"])
        frame = places.to_frame(index=False)
        frame["cosine"] = torch.cosine_similarity(a, b, dim=-1).flatten().numpy()
        for name, study in (("effect_first", first), ("effect_second", second)):
            frame[name] = study.effects.of(task).mean().to_numpy().ravel()
        frames.append(frame.assign(task=task))
    found = pd.concat(frames, ignore_index=True)
    return found[["task", "layer", "head", "cosine", "effect_first", "effect_second"]]

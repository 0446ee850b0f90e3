"""Model cards of adapters and of exported models, in the format of the Hugging Face hub."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

CARD = "README.md"
TAGS = ["anamnesis", "continual-learning"]
LICENCE = ("license", "license_name", "license_link")
"""What a card on the hub says of a licence; the last two where it is none of the hub's list."""
ALONE = """\
from peft import PeftModel
from transformers import AutoModelForCausalLM

model = AutoModelForCausalLM.from_pretrained({base})
model = PeftModel.from_pretrained(model, "{own}")
"""
CHAIN = """\
from peft import PeftModel
from transformers import AutoModelForCausalLM

model = AutoModelForCausalLM.from_pretrained({base})
for adapter in (
{order}):
    model = PeftModel.from_pretrained(model, adapter).merge_and_unload()
"""
MERGED = """\
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("{here}")
tokenizer = AutoTokenizer.from_pretrained("{here}")
"""
OF_ADAPTER = """\
from peft import AutoPeftModelForCausalLM
from transformers import AutoTokenizer

model = AutoPeftModelForCausalLM.from_pretrained("{here}")
tokenizer = AutoTokenizer.from_pretrained("{here}")
"""
CODE_OF = {"transformers": MERGED, "peft": OF_ADAPTER}


@dataclass(frozen=True)
class OnHub:
    """A model on a hub: ``repository`` and, where it is known, the ``revision``."""

    repository: str
    revision: str | None = None

    def __str__(self) -> str:
        return self.repository if self.revision is None else f"{self.repository} at {self.revision}"


@dataclass(frozen=True)
class Exported:
    """What the card of an exported model says.

    ``base``: the base model's name, for people; ``facts``: how it was made, a line each; ``scores``: ``set,
    role, form, shots, metric, value, n``, the mean scores of its evaluation (fractions) on the examples of
    ``split``; ``datasets``: the repositories of what it was trained on, where they are on the hub;
    ``licence``: of the base model.
    """

    title: str
    base: str
    facts: Sequence[str]
    scores: pd.DataFrame
    split: str = "test"
    on_hub: OnHub | None = None
    datasets: Sequence[str] = ()
    licence: Mapping[str, str] = field(default_factory=dict)


def on_hub(source: str) -> OnHub | None:
    """Where a ``model.source`` is on the hub; None for a model from elsewhere."""
    if not source.startswith("hf:"):
        return None
    repository, _, revision = source.removeprefix("hf:").partition("@")
    return OnHub(repository, revision or None)


def read_licence(folder: Path) -> dict[str, str]:
    """What the card of a model in a folder, if there is one, says of its licence."""
    from huggingface_hub import ModelCard

    try:
        said = ModelCard.load(folder / CARD).data.to_dict()
    except Exception:  # none, or one that cannot be read: a licence that is not known is left out
        return {}
    return {key: said[key] for key in LICENCE if isinstance(said.get(key), str)}


def adapter_card(base: str, order: Sequence[str], where: OnHub | str) -> str:
    """The README of a stage's adapter. ``base``: name of the base model, for people; ``where``: what it is
    loaded from; ``order``: the adapters to merge one after the other, this one last.

    Paths are those of the run: they hold in the folder that it was started in.
    """
    loaded = f'"{where}"'
    if isinstance(where, OnHub):
        at = f', revision="{where.revision}"' if where.revision else ""
        loaded = f'"{where.repository}"{at}'
    if len(order) == 1:
        title, needed = "Adapter", "Nothing else is needed."
        code = ALONE.format(base=loaded, own=order[0])
    else:
        title = f"Adapter of stage {len(order)}"
        needed = (
            "On the base model alone this adapter gives another model than the one that was trained. It "
            f"needs the adapters of the stages before ({len(order) - 1}) merged into the base model first."
        )
        code = CHAIN.format(base=loaded, order="".join(f'    "{path}",\n' for path in order))
    front = _front_matter(
        library_name="peft",
        base_model=where.repository if isinstance(where, OnHub) else None,
        pipeline_tag="text-generation",
        tags=TAGS,
    )
    return (
        f"{front}# {title}\n\nBase model: {base}. {needed}\n\n```python\n{code}```\n\nPaths are relative to "
        "the folder that the workflow ran in. `anamnesis export` writes one model from the whole chain that "
        "loads anywhere, or (`--adapter`) one adapter, with a card that has the scores.\n"
    )


def model_card(model: Exported, library: str, here: str) -> str:
    """The README of an exported model. ``library``: transformers for merged weights, peft for an adapter;
    ``here``: where it is loaded from.
    """
    scores, repository = model.scores, model.on_hub.repository if model.on_hub else None
    results = (
        {"model_name": model.title, "eval_results": _results(scores, model.split)} if len(scores) else {}
    )
    front = _front_matter(
        library_name=library,
        pipeline_tag="text-generation",
        base_model=repository,
        tags=TAGS,
        datasets=list(model.datasets) or None,
        metrics=sorted(set(scores["metric"])) or None,
        **model.licence,
        **results,
    )
    how = {
        "transformers": "All adapters are merged into its weights.",
        "peft": f"The adapter belongs to {model.on_hub} and needs nothing else.",
    }
    lines, code = "".join(f"- {fact}\n" for fact in model.facts), CODE_OF[library].format(here=here)
    return (
        f"{front}# {model.title}\n\nBase model: {model.base}. {how[library]}\n\n{lines}\n"
        f"```python\n{code}```\n{_table(scores)}"
    )


def _results(scores: pd.DataFrame, split: str) -> list:
    """The scores as the hub shows them next to a model."""
    from huggingface_hub import EvalResult

    return [
        EvalResult(
            task_type="text-generation",
            dataset_type=row.set,
            dataset_name=f"{row.set} ({row.form}, {row.shots} demonstrations)",
            dataset_config=f"{row.form}-{row.shots}",  # the hub tells results apart by it
            dataset_split=split,
            dataset_args={"shots": int(row.shots), "examples": int(row.n)},
            metric_type=row.metric,
            metric_value=round(float(row.value), 4),
        )
        for row in scores.itertuples()
    ]


def _table(scores: pd.DataFrame) -> str:
    rows = "".join(
        f"| {row.set} | {row.role.replace('_', ' ')} | {row.form} | {row.shots} | {row.metric} | "
        f"{100 * row.value:.1f} | {row.n} |\n"
        for row in scores.itertuples()
    )
    head = "| set | role | form | demonstrations | metric | % | n |\n|---|---|---|---:|---|---:|---:|\n"
    return f"\n## Scores\n\n{head}{rows}" if rows else ""


def _front_matter(**fields) -> str:
    from huggingface_hub import ModelCardData

    return f"---\n{ModelCardData(**fields).to_yaml()}\n---\n\n"

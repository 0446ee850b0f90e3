"""Model cards of adapters and of exported models, in the format of the Hugging Face hub."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

TAGS = ["anamnesis", "continual-learning"]
ALONE = """\
from peft import PeftModel
from transformers import AutoModelForCausalLM

model = AutoModelForCausalLM.from_pretrained("{base}")
model = PeftModel.from_pretrained(model, "{own}")
"""
CHAIN = """\
from peft import PeftModel
from transformers import AutoModelForCausalLM

model = AutoModelForCausalLM.from_pretrained("{base}")
for adapter in (
{order}):
    model = PeftModel.from_pretrained(model, adapter).merge_and_unload()
"""


def hub_id(source: str) -> str | None:
    """The repository of a ``model.source`` on the hub; None for a model from elsewhere."""
    return source.removeprefix("hf:").partition("@")[0] if source.startswith("hf:") else None


def adapter_card(name: str, base: str, order: Sequence[str], on_hub: str | None = None) -> str:
    """The README of an adapter. ``name``: of the base model, for people; ``base``: where it is loaded from;
    ``order``: the adapters to merge one after the other, this one last; ``on_hub``: the base model's
    repository there.

    Paths are those of the run: they hold in the folder that it was started in.
    """
    if len(order) == 1:
        title, needed = "Adapter", "Nothing else is needed."
        code = ALONE.format(base=base, own=order[0])
    else:
        title = f"Adapter of stage {len(order)}"
        needed = (
            "On the base model alone this adapter gives another model than the one that was trained. It "
            f"needs the adapters of the stages before ({len(order) - 1}) merged into the base model first."
        )
        code = CHAIN.format(base=base, order="".join(f'    "{path}",\n' for path in order))
    front = _front_matter(library_name="peft", base_model=on_hub, tags=TAGS)
    return (
        f"{front}# {title}\n\nBase model: {name}. {needed}\n\n```python\n{code}```\n\nPaths are relative to "
        "the folder that the workflow ran in. `python -m anamnesis.commands.export` writes one model from "
        "the whole chain that loads anywhere.\n"
    )


def model_card(
    title: str, name: str, facts: Sequence[str], scores: pd.DataFrame, on_hub: str | None = None
) -> str:
    """The README of an exported model. ``scores``: ``set, role, form, shots, metric, value, n``, the mean
    scores of its evaluation (fractions); ``facts``: how it was made, a line each.
    """
    from huggingface_hub import EvalResult

    results = [
        EvalResult(
            task_type="text-generation",
            dataset_type=row.set,
            dataset_name=f"{row.set} ({row.form}, {row.shots} demonstrations)",
            metric_type=row.metric,
            metric_value=round(float(row.value), 4),
        )
        for row in scores.itertuples()
    ]
    more = {"model_name": title, "eval_results": results} if results else {}
    front = _front_matter(
        library_name="transformers",
        pipeline_tag="text-generation",
        base_model=on_hub,
        tags=TAGS,
        datasets=list(dict.fromkeys(scores["set"])) or None,
        metrics=sorted(set(scores["metric"])) or None,
        **more,
    )
    lines = "".join(f"- {fact}\n" for fact in facts)
    rows = "".join(
        f"| {row.set} | {row.role.replace('_', ' ')} | {row.form} | {row.shots} | {row.metric} | "
        f"{100 * row.value:.1f} | {row.n} |\n"
        for row in scores.itertuples()
    )
    head = "| set | role | form | demonstrations | metric | % | n |\n|---|---|---|---:|---|---:|---:|\n"
    table = f"\n## Scores\n\n{head}{rows}" if rows else ""
    return (
        f"{front}# {title}\n\nBase model: {name}. All adapters are merged into its weights.\n\n{lines}{table}"
    )


def _front_matter(**fields) -> str:
    from huggingface_hub import ModelCardData

    return f"---\n{ModelCardData(**fields).to_yaml()}\n---\n\n"

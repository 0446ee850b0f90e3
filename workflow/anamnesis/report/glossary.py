"""The words of the report, each said once: measures, and what was done to the model."""

from __future__ import annotations

from collections.abc import Mapping

from anamnesis.core.names import GUIDED_SUFFIX
from anamnesis.report import run_facts

TITLE = "Words used here"

ABBREVIATIONS = {
    "HP": "held-out performance: mean zero-shot accuracy on held-out sets",
    "IP": "in-context performance: mean few-shot accuracy on held-out sets",
    "OP": "overall performance: mean zero-shot accuracy on the training tasks",
    "BWT": "backward transfer: mean change of a training task's accuracy from its own stage to the end",
    "Forgetting": "mean drop of a training task from its best accuracy since it was trained",
}
ABBREVIATIONS |= {f"Δ {name}": f"difference of {meaning}" for name, meaning in ABBREVIATIONS.items()}

_TERMS = {
    "Held-out set": "Questions of a kind that no stage trains. What is lost there was known before the first "
    "stage. Where the run tuned the starting model, it did so on training examples of these sets; test "
    "questions are others.",
    "Zero-shot, few-shot": "Asked with the instruction alone, and with solved examples before the question.",
    "Knowledge": "A held-out question as a plain statement to complete, without an instruction.",
    "HP (held-out performance)": "Mean zero-shot accuracy on the held-out sets, after the last stage.",
    "IP (in-context performance)": "Mean few-shot accuracy on the held-out sets, after the last stage.",
    "OP (overall performance)": "Mean zero-shot accuracy on the training tasks, after the last stage.",
    "Forgetting": "How far a training task fell from its best accuracy since it was trained, after the "
    "last stage; the mean over all tasks but the last. Above zero: something was forgotten.",
    "BWT (backward transfer)": "Change of a training task's accuracy from its own stage to the end of "
    "the last; the mean over all tasks but the last. Below zero: later training did harm.",
    "Stage, chain": "A stage trains one task. A chain is all stages of one method, with one order of tasks "
    "and one seed. n counts chains.",
    "Interval": "Where the mean would lie with other seeds (and orders, where several were run), on the same "
    "questions. An interval that contains zero shows no change.",
    "Points": "Percentage points: from 80 % to 60 % is −20 points.",
}

_METHODS = {
    "inclora": "Incremental LoRA: plain fine-tuning with a new low-rank adapter (LoRA) for every task, the "
    "earlier ones merged into the model. It does nothing against forgetting; others are compared with it.",
    "Guidance (-ivg)": "While the model learns a task, the average output of the attention heads that carry "
    "the task's instruction (its instruction vector) is added to it, and its answers are held close to those "
    "of the model before the stage with the same addition. Afterwards nothing is added.",
}


_CONTROL = {
    "lwf": "learning without forgetting, which holds the model's answers on the new task close to those of "
    "the model before the stage; no vectors",
}


def terms() -> list[tuple[str, str]]:
    """Words and what they mean."""
    return list(_TERMS.items())


def methods(config: Mapping) -> list[tuple[str, str]]:
    """What the methods of a run are that its first screen names."""
    names = list(map(str, run_facts.value_at(config, "training.methods") or []))
    guided = any(name.endswith(GUIDED_SUFFIX) for name in names)
    ran = {"inclora": "inclora" in names, "Guidance (-ivg)": guided}
    told = [(name, meaning) for name, meaning in _METHODS.items() if ran[name]]
    variants = run_facts.value_at(config, "variants") or {}
    return told + [(name, _varied(variants[name])) for name in names if name in variants]


def _varied(variant: Mapping) -> str:
    """What a variant is: the method, and what is set otherwise."""
    base = str(variant["of"])
    changed = dict(run_facts.flatten({key: value for key, value in variant.items() if key != "of" and value}))
    settings = ", ".join(f"{key} = {value}" for key, value in changed.items() if key != "against")
    named = f"{base} ({_CONTROL[base]})" if base in _CONTROL else base
    return f"A variant of {named}" + (f", with {settings}." if settings else ".")

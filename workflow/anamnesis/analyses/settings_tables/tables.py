"""Tables of what was run: examples of both forms, data, templates, orders, hyper-parameters and vectors
(figure 2 and appendices A to D of arXiv 2406.12227), from the configuration and the tasks in force.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from anamnesis.analyses.settings_tables.section import CAPTIONS, cells
from anamnesis.data.chat import template_for
from anamnesis.data.prompts import Template
from anamnesis.data.text import unmarked
from anamnesis.report.run_facts import flatten
from anamnesis.stats.printed import latex_escape, markdown_table

SPLITS = ("train", "validation", "test")
ROLE_NAMES = {"train_task": "training", "held_out": "held out"}


def tabulate(
    tasks: Sequence[pd.DataFrame],
    heads: pd.DataFrame,
    means: Sequence[Mapping],
    config: Mapping[str, Any],
    methods: Mapping[str, Mapping[str, Any]],
    roles: Mapping[str, str],
    snapshot: str | None = None,
) -> dict[str, list[pd.DataFrame | str]]:
    """Every table of ``CAPTIONS`` as frame, Markdown and LaTeX. ``tasks`` and ``means`` (the records of the
    mean activations): in the order of ``roles``; ``methods``: settings in force; ``snapshot``: where a chat
    template of its tokenizer is in use.
    """
    from anamnesis.models.loading import load_tokenizer

    frames = dict(zip(roles, tasks, strict=True))
    template = template_for(config["prompts"], load_tokenizer(Path(snapshot)) if snapshot else None)
    made = {
        "task_forms": task_forms(frames),
        "data": data_statistics(frames, roles),
        "templates": templates(frames, template),
        "orders": orders(config["suite"]["orders"]),
        "training": hyper_parameters(methods),
        "vectors": vector_settings(config["vectors"], heads, dict(zip(roles, means, strict=True))),
    }
    return {
        name: [table, as_markdown(table, CAPTIONS[name]), as_latex(table, CAPTIONS[name])]
        for name, table in made.items()
    }


def task_forms(tasks: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """One row per set, the first test example (the first with a knowledge form where there is one): set,
    instruction, input, answer, knowledge_prompt, knowledge_answer.
    """
    rows = []
    for name, frame in tasks.items():
        test = frame[frame.split == "test"]
        known = test[test.knowledge_prompt.notna()]
        row = (known if len(known) else test).iloc[0]
        plain = (row.knowledge_prompt, row.knowledge_target) if len(known) else ("", "")
        rows.append((name, row.instruction, row.input, row.target, *plain))
    columns = ["set", "instruction", "input", "answer", "knowledge_prompt", "knowledge_answer"]
    return pd.DataFrame(rows, columns=columns)


def data_statistics(tasks: Mapping[str, pd.DataFrame], roles: Mapping[str, str]) -> pd.DataFrame:
    """One row per set: role, answer, metric, knowledge_form, words, answer_words, and the number of examples
    in each split.
    """
    rows = []
    for name, frame in tasks.items():
        test = frame[frame.split == "test"]
        ranked = test.choices.notna().all()
        options = sorted({len(choices) for choices in test.choices}) if ranked else []
        rows.append(
            {
                "set": name,
                "role": ROLE_NAMES[roles[name]],
                "answer": f"one of {'/'.join(map(str, options))}" if ranked else "generated",
                "metric": "accuracy, rank classification" if ranked else "exact match",
                "knowledge_form": "yes" if frame.knowledge_prompt.notna().any() else "no",
                "words": round(float(test.input.str.split().str.len().mean()), 1),
                "answer_words": round(float(test.target.str.split().str.len().mean()), 1),
                **{split: int((frame.split == split).sum()) for split in SPLITS},
            }
        )
    return pd.DataFrame(rows)


def templates(tasks: Mapping[str, pd.DataFrame], template: Template) -> pd.DataFrame:
    """One row per set and form: set, form, prompt. Line breaks are written as "\\n"."""
    rows = []
    for name, frame in tasks.items():
        example = frame[frame.split == "test"].iloc[0]
        rows.append((name, "instruction", unmarked(template.render(example.instruction, [], "{x}"))))
        if frame.knowledge_prompt.notna().any():
            rows.append((name, "knowledge", "{x}"))
    table = pd.DataFrame(rows, columns=["set", "form", "prompt"])
    return table.assign(prompt=table.prompt.str.replace("\n", "\\n"))


def orders(tasks: Sequence[Sequence[str]]) -> pd.DataFrame:
    """One row per order: order, tasks."""
    rows = [(k, " → ".join(order)) for k, order in enumerate(tasks, start=1)]
    return pd.DataFrame(rows, columns=["order", "tasks"])


def hyper_parameters(methods: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """One row per setting, one column per method: what each stage is trained with. ``methods``: name ->
    ``base, training, settings, guidance`` in force.
    """
    columns = {}
    for name, found in methods.items():
        own = {f"methods.{found['base']}": found["settings"]} if found["settings"] else {}
        guidance = {"guidance": found["guidance"]} if found["guidance"] else {}
        columns[name] = dict(flatten({"training": found["training"], **own, **guidance}))
    keys = dict.fromkeys(key for settings in columns.values() for key in settings)
    rows = [(key, *(settings.get(key, "–") for settings in columns.values())) for key in keys]
    return pd.DataFrame(rows, columns=["setting", *columns])


def vector_settings(
    section: Mapping[str, Any], heads: pd.DataFrame, means: Mapping[str, Mapping]
) -> pd.DataFrame:
    """setting, value: the ``section`` vectors, the head set, and over how many prompts each set's activations
    were averaged. ``means``: set -> record of its mean activations.
    """
    chosen = heads[heads.selected].sort_values("rank")
    names = ", ".join(f"{row.layer}.{row.head}" for row in chosen.itertuples())
    left_out = ("optimised",) if section["extractor"] == "heads" else ()
    section = {key: value for key, value in section.items() if key not in left_out}
    rows = [(f"vectors.{key}", value) for key, value in flatten(section)]
    rows.append(("head set S (layer.head)", names))
    for name, record in means.items():
        count = record["correct"] if record["averaged_over"] == "correct" else record["prompts"]
        rows.append(
            (
                f"prompts averaged, {name}",
                f"{count} ({record['correct']} correct of {record['prompts']})",
            )
        )
    return pd.DataFrame(rows, columns=["setting", "value"])


def as_markdown(table: pd.DataFrame, caption: str) -> str:
    header, rows = cells(table)
    flat = [[value.replace("\n", "\\n") for value in row] for row in rows]
    return f"{markdown_table(header, flat)}\n\n{caption}\n"


def as_latex(table: pd.DataFrame, caption: str) -> str:
    """A ``table`` environment (needs the package booktabs); long texts break in columns of equal width."""
    header, rows = cells(table)
    columns = f"p{{{0.92 / len(header):.3f}\\linewidth}}" * len(header)
    lines = [" & ".join(latex_escape(cell.replace("\n", "\\n")) for cell in line) + r" \\" for line in rows]
    return "\n".join(
        [
            r"\begin{table}", r"\centering", r"\footnotesize", r"\begin{tabular}{" + columns + "}",
            r"\toprule", " & ".join(map(latex_escape, header)) + r" \\", r"\midrule", *lines, r"\bottomrule",
            r"\end{tabular}", r"\caption{" + latex_escape(caption) + "}", r"\end{table}", "",
        ]
    )  # fmt: skip

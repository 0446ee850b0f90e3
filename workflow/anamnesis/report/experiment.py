"""The sections of an experiment's report, put together from its frames; nothing is read from disk here but
pictures.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean

import pandas as pd

from anamnesis.report import first_screen, sentences
from anamnesis.report.builder import Picture, Section, Table, picture
from anamnesis.report.given_back import recovery_section
from anamnesis.stats.comparisons import TITLES, comparison_cells, comparison_note
from anamnesis.stats.held_out import NOTE as HELD_OUT_NOTE
from anamnesis.stats.held_out import held_out_cells
from anamnesis.stats.paper_table import DIRECTION, NOTE, direction_cells, published_cells, sources
from anamnesis.stats.printed import HEADINGS, table_cells, table_note
from anamnesis.stats.summary import MEASURES

# Parts of a record that are long and stand in the configuration or in the record itself.
_NOT_SHOWN = ("params", "inputs", "config")
_COST_COLUMNS = {"rule": "Rule", "seconds": "Seconds", "peak_memory_mib": "Peak memory (MiB)"}


@dataclass(frozen=True, slots=True)
class ExperimentResults:
    """Everything a report shows.

    config : the checked configuration as plain values. table, curves, heads, interventions : frames as
    written by the workflow (interventions None when none were run). figures : name -> PNG (summary, twins,
    comparisons, variants, accuracy_curves, head_effects, interventions); the PDF and CSV next to each are
    linked. captions : name -> text below the figure. variants : what their figure shows
    (``figures.variants_frame``). paired : of methods chain by chain
    (``evaluation.comparisons.comparison_table``). records : name -> provenance record. prompts :
    ``task, kind, text, target``, a few to show. held_out : what held-out sets lost, one by one
    (``evaluation.held_out``). reference : published Table 1. links : label -> file, for the tables. further :
    sections of analyses that were made on request. recovered : what vectors give back after training
    (``evaluation.vector_recovery.recovery_gain``; the figure is vector_recovery).
    """

    config: Mapping
    table: pd.DataFrame
    curves: pd.DataFrame
    heads: pd.DataFrame
    figures: Mapping[str, str | Path]
    captions: Mapping[str, str] = field(default_factory=dict)
    interventions: pd.DataFrame | None = None
    variants: pd.DataFrame | None = None
    records: Mapping[str, Mapping] = field(default_factory=dict)
    paired: pd.DataFrame | None = None
    prompts: pd.DataFrame | None = None
    reference: pd.DataFrame | None = None
    held_out: pd.DataFrame | None = None
    links: Mapping[str, str | Path] = field(default_factory=dict)
    further: Sequence[Section] = ()
    recovered: pd.DataFrame | None = None


def experiment_sections(results: ExperimentResults) -> list[Section]:
    """The report's sections in order: headline, what was run, forgetting, vectors, what they give back,
    further analyses, published numbers, prompts, provenance.
    """
    parts = [
        _first_screen(results),
        _table1(results),
        _what_was_run(results.config),
        _forgetting(results),
        _vectors(results),
        _recovery(results),
        *results.further,
        _published(results),
        _prompts(results.prompts),
        _provenance(results),
    ]
    return [part for part in parts if part is not None]


def _first_screen(results: ExperimentResults) -> Section | None:
    if results.held_out is None or results.held_out.empty:
        return None
    told = first_screen.first_paragraphs(results.held_out, results.table, results.paired, results.recovered)
    alt = first_screen.picture_alt(list(results.held_out["method"].unique()))
    tuned = start_sentence(results.config, results.records)
    return Section(
        "What was lost, what stayed, what guidance changed",
        paragraphs=[*told, *([tuned] if tuned else [])],
        pictures=_picture(results, "summary", alt, []),
    )


def start_sentence(config: Mapping, records: Mapping[str, Mapping]) -> str:
    """What the model before training is, where it was tuned; else nothing. ``records``: those of the run, of
    which the tuning's has the number of examples and the accuracy before and after.
    """
    record = next((found for name, found in records.items() if name.endswith("tuned/tuning")), None)
    if record is None:
        return ""
    before, after = (mean(record[key].values()) for key in ("accuracy_before", "accuracy_after"))
    return (
        f"The model before training is {_at(config, 'model.name')}, tuned on "
        f"{sum(record['examples'].values())} training examples of {', '.join(record['tasks'])}. That raised "
        f"zero-shot accuracy on their validation examples from {sentences.percent(before)} to "
        f"{sentences.percent(after)}."
    )


def _table1(results: ExperimentResults) -> Section:
    header, cells = table_cells(results.table)
    rows = [[cell.replace(", ", ",\u00a0").replace(" ±", "\u00a0±") for cell in row] for row in cells]
    said = [sentences.level_sentence(results.table, "ip")]
    pairs = results.table[results.table["kind"] == "difference"]["twin"].nunique()
    if pairs > sentences.FEW:
        said += sentences.twins_sentences(results.table)
    else:
        for measure in ("ip", "hp", "op", "forgetting"):
            said += sentences.difference_sentences(results.table, measure)
    return Section(
        "Table 1",
        paragraphs=said,
        tables=[Table(header, rows, table_note(results.table))],
        links=results.links,
    )


def _what_was_run(config: Mapping) -> Section:
    facts = [
        (label, shown(_at(config, path)))
        for label, path in _FACTS.items()
        if _at(config, path) not in (None, {}, [])
    ]
    orders = _at(config, "suite.orders") or []
    facts[2:2] = [
        (f"Training tasks, order {k}", " → ".join(map(str, order))) for k, order in enumerate(orders, start=1)
    ]
    everything = Table(["Key", "Value"], flatten(config), "The whole configuration", kind="text", folded=True)
    return Section("What was run", tables=[Table(["Setting", "Value"], facts, kind="text"), everything])


_FACTS = {
    "Model": "model.name",
    "Weights": "model.source",
    "Tuned before training": "tuning.enabled",
    "Held-out sets": "suite.held_out",
    "Methods": "training.methods",
    "Training seeds": "training.seeds",
    "Chains of other runs": "statistics.pool",
    "Training examples per task (at most)": "data.train_examples",
    "Training examples of single tasks (at most)": "data.task_examples",
    "Test examples per set (at most)": "data.test_examples",
    "Epochs per task": "training.epochs",
    "Epochs of single tasks": "training.task_epochs",
    "Learning rate": "training.learning_rate",
    "Batch size": "training.batch_size",
    "LoRA rank": "training.lora.rank",
    "Heads in the vector": "vectors.heads",
    "Weight of the KL term": "guidance.kl.weight",
    "KL teacher": "guidance.kl.teacher",
    "KL positions": "guidance.kl.positions",
    "Demonstrations in few-shot prompts": "evaluation.shots",
}


def _at(config: Mapping, path: str) -> object:
    value: object = config
    for key in path.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def shown(value: object) -> str:
    """A configuration value as text: lists with commas, truth values as yes and no, a dash for null."""
    if isinstance(value, list | tuple):
        return ", ".join(shown(item) for item in value) if value else "none"
    if isinstance(value, Mapping):
        return json.dumps(value, ensure_ascii=False, default=str)
    if value is None:
        return "–"
    return ("yes" if value else "no") if isinstance(value, bool) else str(value)


def flatten(mapping: Mapping, prefix: str = "") -> list[tuple[str, str]]:
    """The leaves of a nested mapping as (dotted key, text), in the mapping's order."""
    rows: list[tuple[str, str]] = []
    for key, value in mapping.items():
        if isinstance(value, Mapping) and value:
            rows += flatten(value, f"{prefix}{key}.")
        else:
            rows.append((f"{prefix}{key}", shown(value)))
    return rows


def _picture(results: ExperimentResults, name: str, alt: str, said: Sequence[str]) -> list[Picture]:
    if name not in results.figures:
        return []
    return [picture(results.figures[name], alt, results.captions.get(name, ""), said)]


def _forgetting(results: ExperimentResults) -> Section:
    lost = [] if results.held_out is None else [_held_out(results.held_out)]
    curves = [*sentences.curves_sentences(results.curves), *sentences.forms_sentences(results.curves)]
    return Section(
        "What is forgotten",
        tables=[*lost, *_compared(results.paired)],
        pictures=[
            *_picture(
                results,
                "twins",
                "HP, IP, OP and forgetting of every chain with and without guidance",
                sentences.twins_sentences(results.table),
            ),
            *_picture(
                results,
                "comparisons",
                "Differences of HP, IP, OP and forgetting between methods, with intervals",
                [],
            ),
            *_picture(
                results,
                "variants",
                "HP, IP, OP and forgetting of methods under other settings",
                [] if results.variants is None else sentences.variants_sentences(results.variants),
            ),
            *_picture(results, "accuracy_curves", "Accuracy against stage, one panel per set", curves),
        ],
    )


def _held_out(table: pd.DataFrame) -> Table:
    header, rows = held_out_cells(table)
    return Table(header, rows, f"Held-out sets, one by one. {HELD_OUT_NOTE}", kind="text")


def _compared(paired: pd.DataFrame | None) -> list[Table]:
    tables = []
    for kind, title in TITLES.items() if paired is not None else ():
        header, rows = comparison_cells(paired, kind)
        if rows:
            note = comparison_note(paired[paired["kind"] == kind])
            tables.append(Table(header, rows, f"{title}. {note}", kind="text"))
    return tables


def _vectors(results: ExperimentResults) -> Section:
    unit = _at(results.config, "vectors.rank_by") or "probability"
    pictures = _picture(
        results,
        "head_effects",
        "Heat map of causal effects, layer by head",
        sentences.heads_sentences(results.heads, str(unit)),
    )
    tables = []
    if results.interventions is not None and len(results.interventions):
        said = sentences.interventions_sentences(results.interventions)
        pictures += _picture(
            results, "interventions", "Accuracy against layer of intervention, one panel per set", said
        )
        tables.append(_interventions_table(results.interventions))
    return Section("Instruction vectors", tables=tables, pictures=pictures)


def _recovery(results: ExperimentResults) -> Section | None:
    if results.recovered is None:
        return None
    caption = results.captions.get("vector_recovery", "")
    return recovery_section(results.recovered, results.figures["vector_recovery"], caption)


def _interventions_table(frame: pd.DataFrame) -> Table:
    header = [
        "Set",
        "Zero-shot",
        "+ vector (layer)",
        "+ random, same layer",
        "Few-shot",
        "− vector (layer)",
        "n",
    ]
    rows = [
        [
            row.set,
            sentences.percent(row.none),
            _with_layer(row.add, row.layer),
            sentences.percent(row.random),
            sentences.percent(row.few_shot),
            _with_layer(row.remove, row.removal_layer),
            row.n,
        ]
        for row in sentences.intervention_rows(frame).itertuples()
    ]
    caption = (
        "Accuracy on test examples. The vector is added after the layer where that helped most on validation "
        "examples, and removed after the layer where that harmed most on them."
    )
    return Table(header, rows, caption)


def _with_layer(value: float, layer: object) -> str:
    return "–" if pd.isna(value) or pd.isna(layer) else f"{sentences.percent(value)} ({layer})"


def _published(results: ExperimentResults) -> Section | None:
    reference = results.reference
    if reference is None or reference.empty:
        return None
    rows = [
        [
            row.benchmark,
            row.method + ("-ivg" if row.guided == "yes" else ""),
            *map(_number, (row.hp, row.ip, row.op)),
            "" if pd.isna(row.note) else row.note,
        ]
        for row in reference.itertuples()
    ]
    header = ["Benchmark", "Method", *(HEADINGS[m] for m in MEASURES[:3]), "Note"]
    beside, compared = published_cells(results.table, reference)
    tables = [Table(beside, compared, NOTE)] if compared else []
    directions, ours = direction_cells(results.table, reference)
    tables += [Table(directions, ours, DIRECTION, kind="text")] if ours else []
    return Section(
        "Published numbers",
        paragraphs=[
            "For orientation only: another model, other data and other scoring, so they are no target for "
            "this run."
        ],
        tables=[*tables, Table(header, rows, sources(reference), folded=True)],
    )


def _number(value: object) -> str:
    return "–" if pd.isna(value) else f"{float(value):.2f}"


def _prompts(prompts: pd.DataFrame | None) -> Section | None:
    if prompts is None or prompts.empty:
        return None
    passages = [(f"{p.task}, {p.kind}; answer: {p.target}", str(p.text)) for p in prompts.itertuples()]
    return Section("Prompts", paragraphs=["As the model sees them, one of each kind."], passages=passages)


def _provenance(results: ExperimentResults) -> Section | None:
    if not results.records:
        return None
    flat = {name: dict(flatten(_trimmed(record))) for name, record in results.records.items()}
    keys = list(dict.fromkeys(key for record in flat.values() for key in record))
    common = [
        (key, next(iter(values)))
        for key in keys
        if key not in _COST_COLUMNS and len(values := {record.get(key, "") for record in flat.values()}) == 1
    ]
    costs = [[name, *(record.get(key, "–") for key in _COST_COLUMNS)] for name, record in flat.items()]
    seconds = sum(float(record.get("seconds") or 0) for record in results.records.values())
    return Section(
        "Provenance",
        paragraphs=[
            f"{len(flat)} results, {seconds / 60:.1f} minutes of computing in all. The full record stands "
            "beside each result, with its parameters and the digests of its inputs."
        ],
        tables=[
            Table(["Same for all results", "Value"], common, kind="text"),
            Table(["Result", *_COST_COLUMNS.values()], costs, "Every result and its cost", folded=True),
        ],
    )


def _trimmed(record: Mapping) -> dict:
    return {key: value for key, value in record.items() if key not in _NOT_SHOWN}

"""The sections of an experiment's report, put together from its frames; nothing is read from disk here but
pictures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from anamnesis.data.text import unmarked
from anamnesis.report import first_screen, run_facts, sentences
from anamnesis.report.builder import Picture, Section, Table, picture
from anamnesis.report.given_back import recovery_section
from anamnesis.stats.comparisons import TITLES, comparison_cells, comparison_note
from anamnesis.stats.held_out import NOTE as HELD_OUT_NOTE
from anamnesis.stats.held_out import held_out_cells
from anamnesis.stats.paper_table import DIRECTION, NOTE, direction_cells, published_cells, sources
from anamnesis.stats.printed import HEADINGS, table_cells, table_note
from anamnesis.stats.summary import MEASURES


@dataclass(frozen=True, slots=True)
class ExperimentResults:
    """Everything a report shows.

    config : the checked configuration as plain values. table, curves, heads, interventions : frames as
    written by the workflow (interventions None when none were run). figures : name -> PNG (summary, twins,
    comparisons, variants, accuracy_curves, head_effects, interventions); the PDF and CSV next to each are
    linked. captions : name -> text below the figure. variants : what their figure shows
    (``figures.variant_panels.variants_frame``). paired : of methods chain by chain
    (``stats.comparisons.comparison_table``). records : name -> provenance record. prompts :
    ``task, kind, text, target``, a few to show. held_out : what held-out sets lost, one by one
    (``stats.held_out``). reference : published Table 1. links : label -> file, for the tables. further :
    sections of analyses that were made on request. recovered : what vectors give back after training
    (``stats.vector_recovery.recovery_gain``; the figure is vector_recovery).
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
        run_facts.what_was_run(results.config),
        _forgetting(results),
        _vectors(results),
        _recovery(results),
        *results.further,
        _published(results),
        _prompts(results.prompts),
        run_facts.provenance(results.records),
    ]
    return [part for part in parts if part is not None]


def _first_screen(results: ExperimentResults) -> Section | None:
    if results.held_out is None or results.held_out.empty:
        return None
    told = first_screen.first_paragraphs(results.held_out, results.table, results.paired, results.recovered)
    alt = first_screen.picture_alt(list(results.held_out["method"].unique()))
    tuned = run_facts.start_sentence(results.config, results.records)
    return Section(
        "What was lost, what stayed, what guidance changed",
        paragraphs=[*told, *([tuned] if tuned else [])],
        pictures=_picture(results, "summary", alt, []),
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
    unit = run_facts.value_at(results.config, "vectors.rank_by") or "probability"
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
    passages = [
        (f"{p.task}, {p.kind}; answer: {p.target}", unmarked(str(p.text))) for p in prompts.itertuples()
    ]
    return Section("Prompts", paragraphs=["As the model sees them, one of each kind."], passages=passages)

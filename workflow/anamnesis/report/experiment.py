"""The sections of an experiment's report, put together from its frames; nothing is read from disk here but
pictures.
"""

from __future__ import annotations

from dataclasses import replace

import pandas as pd

from anamnesis.core.names import GUIDED_SUFFIX
from anamnesis.data.text import unmarked
from anamnesis.report import charts, first_screen, glossary, run_facts, sentences
from anamnesis.report.answers import answers_section
from anamnesis.report.builder import Section, Table
from anamnesis.report.given_back import recovery_section
from anamnesis.report.results import ExperimentResults
from anamnesis.report.vector_section import vectors_section
from anamnesis.stats.chart_tables import curve_means, level_means
from anamnesis.stats.comparisons import TITLES, comparison_cells, comparison_note
from anamnesis.stats.held_out import NOTE as HELD_OUT_NOTE
from anamnesis.stats.held_out import held_out_cells
from anamnesis.stats.paper_table import DIRECTION, NOTE, direction_cells, published_cells, sources
from anamnesis.stats.printed import HEADINGS, table_cells, table_note
from anamnesis.stats.summary import MEASURES

CURVES = "Accuracy against stage, one panel per set"


def experiment_sections(results: ExperimentResults) -> list[Section]:
    """The report's sections in order: first what was found, and last, folded, what it was found with."""
    parts = [
        _first_screen(results),
        None if results.answers is None else answers_section(results.answers, results.answer_links),
        _forgetting(results),
        _table1(results),
        vectors_section(results),
        _recovery(results),
        *results.further,
        run_facts.warned(results.warnings),
        Section(glossary.TITLE, terms=glossary.terms()),
        *(
            replace(part, folded=True)
            for part in (
                _published(results),
                _prompts(results.prompts),
                run_facts.what_was_run(results.config),
                run_facts.provenance(results.records),
            )
            if part is not None
        ),
    ]
    return [part for part in parts if part is not None]


def _first_screen(results: ExperimentResults) -> Section | None:
    if results.held_out is None or results.held_out.empty:
        return None
    alt = first_screen.picture_alt(list(results.held_out["method"].unique()))
    tuned = run_facts.start_sentence(results.config, results.records)
    return Section(
        "What was lost, what stayed, what guidance changed",
        numbers=first_screen.first_numbers(results.held_out, results.table),
        terms=[
            *glossary.methods(results.config),
            *([("The model before training", tuned)] if tuned else []),
        ],
        pictures=results.picture("summary", alt, [], _summary_chart(results, alt)),
    )


def _summary_chart(results: ExperimentResults, alt: str) -> dict | None:
    if results.measures is None:
        return None
    return charts.summary_chart(level_means(results.measures, results.confidence), alt)


def _table1(results: ExperimentResults) -> Section:
    header, cells = table_cells(results.table)
    rows = [[cell.replace(", ", ",\u00a0").replace(" ±", "\u00a0±") for cell in row] for row in cells]
    said = [sentences.level_sentence(results.table, "ip")]
    pairs = results.table[results.table["kind"] == "difference"]["guided"].nunique()
    if pairs > sentences.FEW:
        said += sentences.guidance_sentences(results.table)
    else:
        for measure in ("ip", "hp", "op", "forgetting"):
            said += sentences.difference_sentences(results.table, measure)
    return Section(
        "Table 1",
        paragraphs=said,
        tables=[Table(header, rows, table_note(results.table))],
        links=results.links,
    )


def _forgetting(results: ExperimentResults) -> Section:
    lost, told = [], []
    if results.held_out is not None and len(results.held_out):
        lost = _held_out(results.held_out)
        told = first_screen.first_paragraphs(
            results.held_out, results.table, results.paired, results.recovered
        )
    curves = [*sentences.curves_sentences(results.curves), *sentences.forms_sentences(results.curves)]
    return Section(
        "What is forgotten",
        paragraphs=told,
        tables=[*lost, *_compared(results.paired)],
        pictures=[
            *results.picture(
                "guidance_effect",
                "HP, IP, OP and forgetting of every chain with and without guidance",
                sentences.guidance_sentences(results.table),
            ),
            *results.picture(
                "comparisons",
                "Differences of HP, IP, OP and forgetting between methods, with intervals",
                [],
            ),
            *results.picture(
                "variants",
                "HP, IP, OP and forgetting of methods under other settings",
                [] if results.variants is None else sentences.variants_sentences(results.variants),
            ),
            *results.picture(
                "accuracy_curves",
                CURVES,
                curves,
                charts.accuracy_chart(curve_means(results.curves, results.confidence), CURVES),
            ),
        ],
    )


def _held_out(table: pd.DataFrame) -> list[Table]:
    """Zero-shot accuracy of the first method and its guided form on every set; and all there is, folded."""
    plain = first_screen.plain_method(table)
    pair = table["method"].isin([plain, plain + GUIDED_SUFFIX]) & (table["measure"] == "hp")
    first = [Table(*held_out_cells(table[pair]), HELD_OUT_NOTE, kind="text")] if pair.any() else []
    whole = Table(
        *held_out_cells(table), "Held-out sets in every form, all methods", kind="text", folded=True
    )
    return [*first, replace(whole, note=HELD_OUT_NOTE)]


def _compared(paired: pd.DataFrame | None) -> list[Table]:
    tables = []
    for kind, title in TITLES.items() if paired is not None else ():
        header, rows = comparison_cells(paired, kind)
        if rows:
            note = comparison_note(paired[paired["kind"] == kind])
            tables.append(Table(header, rows, f"{title}. {note}", kind="text"))
    return tables


def _recovery(results: ExperimentResults) -> Section | None:
    if results.recovered is None:
        return None
    caption = results.captions.get("vector_recovery", "")
    return recovery_section(results.recovered, results.figures["vector_recovery"], caption)


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
    header, compared = published_cells(results.table, reference)
    tables = [Table(header, compared, NOTE)] if compared else []
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

"""Figures and the report: cheap rules that need no model and no GPU."""

for figure in REGISTERED_FIGURES:

    rule:
        name:
            f"plot_{figure.name}"
        input:
            **figure.inputs,
        output:
            pdf=report(
                FIGURES / f"{figure.name}.pdf",
                caption="../report/figure.rst",
                category=figure.category,
            ),
            png=FIGURES / f"{figure.name}.png",
            csv=FIGURES / f"{figure.name}.csv",
            texts=figure_outputs(figure),
        log:
            LOGS / f"plot_{figure.name}.log",
        benchmark:
            BENCHMARKS / f"plot_{figure.name}.tsv"
        conda:
            ENVIRONMENT
        resources:
            mem_mb=1000,
            runtime=10,
        params:
            **figure.params,
            call=figure.call,
            inputs={name: isinstance(files, list) for name, files in figure.inputs.items()},
            caption=" ".join(figure.caption.split()),
            code=called_digest("plot", figure.call),
        script:
            "../scripts/plot.py"


rule write_report:
    input:
        table=SUITE / "table1.csv",
        paired=SUITE / "comparisons.csv",
        held_out=SUITE / "held_out.csv",
        answers=ANSWER_TABLES,
        curves=SUITE / "accuracy.parquet",
        heads=HEADS,
        interventions=interventions_of(INTERVENED),
        pictures=expand(FIGURES / "{name}.png", name=FIGURE_NAMES),
        prompts=VECTORS / CONFIG.suite.held_out[0] / "prompts.parquet",
        reference=REFERENCE,
        records=record_files(),
        analysed=[file for analysis in MADE for file in analysis_results(analysis)],
    output:
        report=report(RESULTS / "report.html", caption="../report/report.rst", category="Report"),
    log:
        LOGS / "write_report.log",
    benchmark:
        BENCHMARKS / "write_report.tsv"
    conda:
        ENVIRONMENT
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        config=SETTINGS,
        figures={name: str(FIGURES / f"{name}.png") for name in FIGURE_NAMES},
        captions={figure.name: figure.caption for figure in SHOWN_FIGURES},
        sections={analysis.section: analysis_results(analysis) for analysis in MADE},
        code=called_digest("write_report", *(analysis.section for analysis in MADE)),
    script:
        "../scripts/write_report.py"

"""Figures and the report: cheap rules that need no model and no GPU."""

for figure in [*CORE_FIGURES, *(figure for analysis in ANALYSES for figure in analysis.figures)]:

    rule:
        name:
            f"plot_{figure.name}"
        input:
            **figure.inputs,
        output:
            pdf=report(
                PLACES.figures / f"{figure.name}.pdf",
                caption="../report/figure.rst",
                category=figure.category,
            ),
            png=PLACES.figures / f"{figure.name}.png",
            csv=PLACES.figures / f"{figure.name}.csv",
            texts=figure_outputs(figure),
        log:
            LOGS / f"plot_{figure.name}.log",
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
        table=PLACES.experiment / "table1.csv",
        paired=PLACES.experiment / "comparisons.csv",
        held_out=PLACES.experiment / "held_out.csv",
        answers=PLACES.answers,
        curves=PLACES.experiment / "accuracy.parquet",
        heads=PLACES.heads,
        interventions=RUN.interventions,
        pictures=[PLACES.figures / f"{figure.name}.png" for figure in SHOWN_FIGURES],
        prompts=PLACES.vectors / CONFIG.suite.held_out[0] / "prompts.parquet",
        reference=RUN.reference / "paper_table1.csv",
        records=EXPERIMENT.record_files(),
        analysed=[file for analysis in MADE for file in analysis_results(analysis)],
    output:
        report=report(PLACES.report, caption="../report/report.rst", category="Report"),
    log:
        LOGS / "write_report.log",
    conda:
        ENVIRONMENT
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        config=SETTINGS,
        figures={figure.name: str(PLACES.figures / f"{figure.name}.png") for figure in SHOWN_FIGURES},
        captions={figure.name: figure.caption for figure in SHOWN_FIGURES},
        sections={analysis.section: analysis_results(analysis) for analysis in MADE},
        code=called_digest("write_report", *(analysis.section for analysis in MADE)),
    script:
        "../scripts/write_report.py"

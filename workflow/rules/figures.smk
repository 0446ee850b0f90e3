"""Figures and the report: cheap rules that need no model and no GPU."""


rule plot_accuracy_curves:
    input:
        frame=SUITE / "accuracy.parquet",
        held_out=SUITE / "held_out.csv",
    output:
        pdf=report(
            FIGURES / "accuracy_curves.pdf",
            caption="../report/accuracy_curves.rst",
            category="Forgetting",
        ),
        png=FIGURES / "accuracy_curves.png",
        csv=FIGURES / "accuracy_curves.csv",
    log:
        LOGS / "plot_accuracy_curves.log",
    benchmark:
        BENCHMARKS / "plot_accuracy_curves.tsv"
    conda:
        ENVIRONMENT
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        code=script_digest("plot_accuracy_curves"),
    script:
        "../scripts/plot_accuracy_curves.py"


rule plot_head_effects:
    input:
        frame=HEADS,
    output:
        pdf=report(
            FIGURES / "head_effects.pdf",
            caption="../report/head_effects.rst",
            category="Vectors",
        ),
        png=FIGURES / "head_effects.png",
        csv=FIGURES / "head_effects.csv",
    log:
        LOGS / "plot_head_effects.log",
    benchmark:
        BENCHMARKS / "plot_head_effects.tsv"
    conda:
        ENVIRONMENT
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        unit=CONFIG.vectors.rank_by,
        code=script_digest("plot_head_effects"),
    script:
        "../scripts/plot_head_effects.py"


rule plot_interventions:
    input:
        frames=interventions_of(INTERVENED),
    output:
        pdf=report(
            FIGURES / "interventions.pdf",
            caption="../report/interventions.rst",
            category="Vectors",
        ),
        png=FIGURES / "interventions.png",
        csv=FIGURES / "interventions.csv",
    log:
        LOGS / "plot_interventions.log",
    benchmark:
        BENCHMARKS / "plot_interventions.tsv"
    conda:
        ENVIRONMENT
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        code=script_digest("plot_interventions"),
    script:
        "../scripts/plot_interventions.py"


rule plot_vector_recovery:
    input:
        recovered=recovery_files(),
        interventions=interventions_of(RECOVERED_SETS),
    output:
        pdf=report(
            FIGURES / "vector_recovery.pdf",
            caption="../report/vector_recovery.rst",
            category="Vectors",
        ),
        png=FIGURES / "vector_recovery.png",
        csv=FIGURES / "vector_recovery.csv",
        gains=FIGURES / "vector_recovery_gain.csv",
    log:
        LOGS / "plot_vector_recovery.log",
    benchmark:
        BENCHMARKS / "plot_vector_recovery.tsv"
    conda:
        ENVIRONMENT
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        statistics=INTERVALS,
        code=script_digest("plot_vector_recovery"),
    script:
        "../scripts/plot_vector_recovery.py"


rule plot_summary:
    input:
        frame=SUITE / "measures.parquet",
        held_out=SUITE / "held_out.csv",
    output:
        pdf=report(
            FIGURES / "summary.pdf",
            caption="../report/summary.rst",
            category="Forgetting",
        ),
        png=FIGURES / "summary.png",
        csv=FIGURES / "summary.csv",
    log:
        LOGS / "plot_summary.log",
    benchmark:
        BENCHMARKS / "plot_summary.tsv"
    conda:
        ENVIRONMENT
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        code=script_digest("plot_summary"),
    script:
        "../scripts/plot_summary.py"


rule plot_twins:
    input:
        frame=SUITE / "measures.parquet",
    output:
        pdf=report(
            FIGURES / "twins.pdf",
            caption="../report/twins.rst",
            category="Forgetting",
        ),
        png=FIGURES / "twins.png",
        csv=FIGURES / "twins.csv",
    log:
        LOGS / "plot_twins.log",
    benchmark:
        BENCHMARKS / "plot_twins.tsv"
    conda:
        ENVIRONMENT
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        statistics=INTERVALS,
        code=script_digest("plot_twins"),
    script:
        "../scripts/plot_twins.py"


rule plot_variants:
    input:
        frame=SUITE / "measures.parquet",
    output:
        pdf=report(
            FIGURES / "variants.pdf",
            caption="../report/variants.rst",
            category="Forgetting",
        ),
        png=FIGURES / "variants.png",
        csv=FIGURES / "variants.csv",
    log:
        LOGS / "plot_variants.log",
    benchmark:
        BENCHMARKS / "plot_variants.tsv"
    conda:
        ENVIRONMENT
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        comparisons=COMPARISONS,
        code=script_digest("plot_variants"),
    script:
        "../scripts/plot_variants.py"


rule plot_comparisons:
    input:
        frame=SUITE / "measures.parquet",
    output:
        pdf=report(
            FIGURES / "comparisons.pdf",
            caption="../report/comparisons.rst",
            category="Forgetting",
        ),
        png=FIGURES / "comparisons.png",
        csv=FIGURES / "comparisons.csv",
    log:
        LOGS / "plot_comparisons.log",
    benchmark:
        BENCHMARKS / "plot_comparisons.tsv"
    conda:
        ENVIRONMENT
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        compared=COMPARED,
        statistics=INTERVALS,
        code=script_digest("plot_comparisons"),
    script:
        "../scripts/plot_comparisons.py"


rule write_report:
    input:
        table=SUITE / "table1.csv",
        paired=SUITE / "comparisons.csv",
        held_out=SUITE / "held_out.csv",
        curves=SUITE / "accuracy.parquet",
        heads=HEADS,
        interventions=interventions_of(INTERVENED),
        pictures=expand(FIGURES / "{name}.png", name=FIGURE_NAMES),
        prompts=VECTORS / CONFIG.suite.held_out[0] / "prompts.parquet",
        reference=REFERENCE,
        records=record_files(),
        on_request=ON_REQUEST,
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
        code=script_digest("write_report"),
    script:
        "../scripts/write_report.py"

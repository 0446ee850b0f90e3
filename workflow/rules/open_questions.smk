"""Questions that the papers leave open: tables of the traces' answers, and their figures."""

OPEN_TABLES = [DYNAMICS / f"{name}.parquet" for name in ("guidance_gain", "wordings", "sufficiency")]
OPEN_FIGURES = [*["guidance_gain"] * bool(TWINS), *["wordings"] * bool(PARAPHRASES), "sufficiency"]
WORDED_PLACES = [place for place in TRACED_PLACES if place["stage"] in (0, ANALYSED.stages[-1])]

if all(os.path.exists(table) for table in OPEN_TABLES):
    FIGURE_NAMES += OPEN_FIGURES
    ON_REQUEST += OPEN_TABLES


rule tabulate_open_questions:
    input:
        snapshot=SNAPSHOT,
        wordings=trace_files(["wordings"], WORDED_PLACES),
        sufficiency=BASE / "sufficiency.parquet",
        curves=SUITE / "accuracy.parquet",
        tasks=[TASKS / f"{name}.parquet" for name in TRAIN_TASKS],
    output:
        guidance_gain=OPEN_TABLES[0],
        worded=OPEN_TABLES[1],
        sufficient=OPEN_TABLES[2],
        record=DYNAMICS / "open_questions.json",
    log:
        LOGS / "tabulate_open_questions.log",
    benchmark:
        BENCHMARKS / "tabulate_open_questions.tsv"
    conda:
        ENVIRONMENT
    resources:
        mem_mb=2000,
        runtime=20,
    params:
        places=WORDED_PLACES,
        trained=TRAIN_TASKS,
        code=script_digest("tabulate_open_questions"),
    script:
        "../scripts/tabulate_open_questions.py"


rule plot_open_questions:
    input:
        guidance_gain=OPEN_TABLES[0],
        wordings=OPEN_TABLES[1],
        sufficiency=OPEN_TABLES[2],
    output:
        pdf=[
            report(FIGURES / f"{name}.pdf", caption=f"../report/{name}.rst", category="Dynamics")
            for name in OPEN_FIGURES
        ],
        png=[FIGURES / f"{name}.png" for name in OPEN_FIGURES],
        csv=[FIGURES / f"{name}.csv" for name in OPEN_FIGURES],
    log:
        LOGS / "plot_open_questions.log",
    benchmark:
        BENCHMARKS / "plot_open_questions.tsv"
    conda:
        ENVIRONMENT
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        statistics=INTERVALS,
        code=script_digest("plot_open_questions"),
    script:
        "../scripts/plot_open_questions.py"

"""Heads from step to step within a stage, which is trained once more for it."""

WITHIN = CONFIG.analyses.within_stage
WITHIN_TABLE = DYNAMICS / "within_stage.parquet"
WATCHED_SETS = held_out_sets(CONFIG)
WATCHED_PLACES = [
    {**chain, "stage": stage}
    for chain in TRACED_CHAINS
    for stage in (sorted(WITHIN.stages) if WITHIN.points else [])
]

# As the traces: made on request, and shown from then on.
if WATCHED_PLACES and os.path.exists(WITHIN_TABLE):
    FIGURE_NAMES.append("within_stage")
    ON_REQUEST.append(WITHIN_TABLE)


def within_stage_files():
    return [WITHIN_TABLE, *figure_files(["within_stage"])] if WATCHED_PLACES else []


rule watch_stage:
    input:
        unpack(stage_inputs),
        snapshot=SNAPSHOT,
        adapter=STAGE / "adapter",
        ranking=HEADS,
        set_tables=[TASKS / f"{name}.parquet" for name in WATCHED_SETS],
        set_prompts=[VECTORS / name / "prompts.parquet" for name in WATCHED_SETS],
    output:
        table=STAGE / "within_stage.parquet",
        record=STAGE / "within_stage.json",
    log:
        LOGS / "watch_stage" / "{method}-order{order}-seed{seed}-stage{stage}.log",
    benchmark:
        BENCHMARKS / "watch_stage" / "{method}-order{order}-seed{seed}-stage{stage}.tsv"
    conda:
        ENVIRONMENT
    threads: DEMANDS.threads_of_stage
    resources:
        mem_mb=DEMANDS.memory_of_stage,
        runtime=DEMANDS.time("watch_stage"),
        gpu=DEMANDS.training_gpus,
        processes=DEMANDS.processes,
        batch_tokens=CONFIG.evaluation.batch_tokens,
    params:
        **training_params(),
        sets=WATCHED_SETS,
        analyses=config_section(CONFIG, "analyses.examples", "analyses.effect_prompts")["analyses"],
        asking={
            "target": CONFIG.vectors.target,
            "rank_by": CONFIG.vectors.rank_by,
            "shots": CONFIG.evaluation.shots,
            "seed": CONFIG.seed,
        },
        points=WITHIN.points,
        code=method_digest("watch_stage", "method"),
    script:
        "../scripts/watch_stage.py"


rule tabulate_within_stage:
    input:
        parts=[str(STAGE / "within_stage.parquet").format(**place) for place in WATCHED_PLACES],
    output:
        table=WITHIN_TABLE,
    log:
        LOGS / "tabulate_within_stage.log",
    benchmark:
        BENCHMARKS / "tabulate_within_stage.tsv"
    conda:
        ENVIRONMENT
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        places=WATCHED_PLACES,
        code=script_digest("join_tables"),
    script:
        "../scripts/join_tables.py"


rule plot_within_stage:
    input:
        frame=WITHIN_TABLE,
    output:
        pdf=report(
            FIGURES / "within_stage.pdf",
            caption="../report/within_stage.rst",
            category="Dynamics",
        ),
        png=FIGURES / "within_stage.png",
        csv=FIGURES / "within_stage.csv",
    log:
        LOGS / "plot_within_stage.log",
    benchmark:
        BENCHMARKS / "plot_within_stage.tsv"
    conda:
        ENVIRONMENT
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        unit=CONFIG.vectors.rank_by,
        code=script_digest("plot_within_stage"),
    script:
        "../scripts/plot_within_stage.py"

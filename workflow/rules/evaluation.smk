"""Evaluation of every checkpoint, accuracy matrices and the summary table."""


rule evaluate_base:
    input:
        snapshot=PLACES.snapshot,
        tasks=EXPERIMENT.scored_files,
    output:
        output=PLACES.base / "evaluation.parquet",
        record=PLACES.base / "evaluation.json",
    log:
        LOGS / "evaluate_base.log",
    priority: PRIORITY["vectors"]
    conda:
        ENVIRONMENT
    threads: DEMANDS.threads
    resources:
        mem_mb=DEMANDS.memory(),
        runtime=DEMANDS.time("evaluate"),
        gpu=DEMANDS.gpus,
        batch_tokens=CONFIG.evaluation.batch_tokens,
    params:
        **EXPERIMENT.evaluation_params(),
        code=called_digest("evaluate_stage"),
    script:
        "../scripts/evaluate_stage.py"


use rule evaluate_base as evaluate_stage with:
    input:
        snapshot=PLACES.snapshot,
        tasks=EXPERIMENT.scored_files,
        adapters=EXPERIMENT.adapters,
    output:
        output=PLACES.stage / "evaluation.parquet",
        record=PLACES.stage / "evaluation.json",
    log:
        LOGS / "evaluate_stage" / "{method}-order{order}-seed{seed}-stage{stage}.log",
    priority: by_seed(1)
    params:
        method=lambda wildcards: EXPERIMENT.resolved[wildcards.method].base,
        code=method_digest("evaluate_stage", "engine"),


if len(CONFIG.training.seeds) > 1:
    FIRST_CHAINS = [chain for chain in CHAINS if chain["seed"] == CONFIG.training.seeds[0]]

    rule first_table:
        input:
            evaluations=EXPERIMENT.chain_evaluations(FIRST_CHAINS),
        output:
            markdown=PLACES.experiment / "first_table.md",
            record=PLACES.experiment / "first_table.json",
        log:
            LOGS / "first_table.log",
        priority: PRIORITY["first table"]
        conda:
            ENVIRONMENT
        resources:
            mem_mb=2000,
            runtime=20,
        params:
            chains=FIRST_CHAINS,
            orders=SETTINGS["suite"]["orders"],
            statistics=EXPERIMENT.intervals,
            code=called_digest("first_table"),
        script:
            "../scripts/first_table.py"


rule tabulate_results:
    input:
        evaluations=EXPERIMENT.chain_evaluations(CHAINS),
        reference=RUN.reference / "paper_table1.csv",
        tasks=PLACES.task_files(EXPERIMENT.roles) if CHAINS else [],
        recovered=EXPERIMENT.recovery_files(),
        harness=EXPERIMENT.harness_files(CHAINS, "harness.parquet"),
        pool=SETTINGS["statistics"]["pool"],
    output:
        curves=PLACES.experiment / "accuracy.parquet",
        measures=PLACES.experiment / "measures.parquet",
        table=PLACES.experiment / "table1.csv",
        comparisons=PLACES.experiment / "comparisons.csv",
        held_out=PLACES.experiment / "held_out.csv",
        markdown=PLACES.experiment / "table1.md",
        latex=PLACES.experiment / "table1.tex",
        answers=PLACES.answers,
        record=PLACES.experiment / "table1.json",
    log:
        LOGS / "tabulate_results.log",
    conda:
        ENVIRONMENT
    resources:
        mem_mb=2000,
        runtime=20,
    params:
        chains=CHAINS,
        orders=SETTINGS["suite"]["orders"],
        compared=EXPERIMENT.compared,
        harness_stages=EXPERIMENT.harness_stages,
        statistics=EXPERIMENT.intervals,
        code=called_digest("tabulate_results"),
    script:
        "../scripts/tabulate_results.py"

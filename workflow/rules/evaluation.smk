"""Evaluation of every checkpoint, accuracy matrices and the summary table."""


def scored(wildcards):
    """The sets that a checkpoint is evaluated on, and their roles."""
    stage = int(wildcards.get("stage", 0))
    if CONFIG.evaluation.held_out_stages == "all" or stage in (0, len(TRAIN_TASKS)):
        return ROLES
    return {name: role for name, role in ROLES.items() if role == "train_task"}


def scored_files(wildcards):
    return [TASKS / f"{task}.parquet" for task in scored(wildcards)]


def evaluation_params():
    return {
        "roles": scored,
        "model": MODEL_PLACEMENT,
        "evaluation": {
            name: value
            for name, value in SETTINGS["evaluation"].items()
            if name not in ("batch_tokens", "held_out_stages", "metrics", "max_new_tokens")
        },
        "answer_lengths": lambda wildcards: {name: answer_length(name) for name in scored(wildcards)},
        "metrics": lambda wildcards: {name: metric(name) for name in scored(wildcards)},
        "max_input_tokens": CONFIG.training.max_input_tokens,
        "prompts": SETTINGS["prompts"],
        "seed": CONFIG.seed,
    }


rule evaluate_base:
    input:
        snapshot=SNAPSHOT,
        tasks=scored_files,
    output:
        output=BASE / "evaluation.parquet",
        record=BASE / "evaluation.json",
    log:
        LOGS / "evaluate_base.log",
    benchmark:
        BENCHMARKS / "evaluate_base.tsv"
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
        **evaluation_params(),
        code=script_digest("evaluate_stage"),
    script:
        "../scripts/evaluate_stage.py"


rule evaluate_stage:
    input:
        snapshot=SNAPSHOT,
        tasks=scored_files,
        adapters=lambda wildcards: adapters_upto(wildcards, int(wildcards.stage)),
    output:
        output=STAGE / "evaluation.parquet",
        record=STAGE / "evaluation.json",
    log:
        LOGS / "evaluate_stage" / "{method}-order{order}-seed{seed}-stage{stage}.log",
    benchmark:
        BENCHMARKS / "evaluate_stage" / "{method}-order{order}-seed{seed}-stage{stage}.tsv"
    priority: by_seed("evaluation")
    conda:
        ENVIRONMENT
    threads: DEMANDS.threads
    resources:
        mem_mb=DEMANDS.memory(),
        runtime=DEMANDS.time("evaluate"),
        gpu=DEMANDS.gpus,
        batch_tokens=CONFIG.evaluation.batch_tokens,
    params:
        **evaluation_params(),
        method=lambda wildcards: RESOLVED[wildcards.method].base,
        code=method_digest("evaluate_stage", "engine"),
    script:
        "../scripts/evaluate_stage.py"


if len(CONFIG.training.seeds) > 1:
    FIRST_CHAINS = [chain for chain in CHAINS if chain["seed"] == CONFIG.training.seeds[0]]

    rule first_table:
        input:
            evaluations=[path for chain in FIRST_CHAINS for path in chain_evaluations(chain)],
        output:
            markdown=SUITE / "first_table.md",
            record=SUITE / "first_table.json",
        log:
            LOGS / "first_table.log",
        benchmark:
            BENCHMARKS / "first_table.tsv"
        priority: PRIORITY["first table"]
        conda:
            ENVIRONMENT
        resources:
            mem_mb=2000,
            runtime=20,
        params:
            chains=FIRST_CHAINS,
            orders=SETTINGS["suite"]["orders"],
            statistics=INTERVALS,
            code=script_digest("first_table"),
        script:
            "../scripts/first_table.py"


rule tabulate_results:
    input:
        evaluations=[path for chain in CHAINS for path in chain_evaluations(chain)],
        reference=REFERENCE,
        tasks=[TASKS / f"{task}.parquet" for task in ROLES if CHAINS],
        pool=SETTINGS["statistics"]["pool"],
    output:
        accuracy=accuracy_files(),
        curves=SUITE / "accuracy.parquet",
        measures=SUITE / "measures.parquet",
        table=SUITE / "table1.csv",
        comparisons=SUITE / "comparisons.csv",
        held_out=SUITE / "held_out.csv",
        markdown=SUITE / "table1.md",
        latex=SUITE / "table1.tex",
        answers=ANSWER_TABLES,
        record=SUITE / "table1.json",
    log:
        LOGS / "tabulate_results.log",
    benchmark:
        BENCHMARKS / "tabulate_results.tsv"
    conda:
        ENVIRONMENT
    resources:
        mem_mb=2000,
        runtime=20,
    params:
        chains=CHAINS,
        orders=SETTINGS["suite"]["orders"],
        compared=COMPARED,
        statistics=INTERVALS,
        code=script_digest("tabulate_results"),
    script:
        "../scripts/tabulate_results.py"

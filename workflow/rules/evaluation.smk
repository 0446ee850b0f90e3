"""Evaluation of every checkpoint, accuracy matrices and the summary table."""


def evaluation_params():
    return {
        "roles": ROLES,
        "model": config_section(CONFIG, "model.dtype", "model.device", "model.gpus")["model"],
        "evaluation": {
            name: value for name, value in SETTINGS["evaluation"].items() if name != "batch_tokens"
        },
        "answer_lengths": {
            name: task.max_new_tokens
            for name, task in CONFIG.data.tasks.items()
            if name in ROLES and task.max_new_tokens
        },
        "prompts": SETTINGS["prompts"],
        "seed": CONFIG.seed,
        "code": script_digest("evaluate_stage"),
    }


rule evaluate_base:
    input:
        snapshot=SNAPSHOT,
        tasks=[TASKS / f"{task}.parquet" for task in ROLES],
    output:
        output=BASE / "evaluation.parquet",
        record=BASE / "evaluation.json",
    log:
        LOGS / "evaluate_base.log",
    benchmark:
        BENCHMARKS / "evaluate_base.tsv"
    conda:
        ENVIRONMENT
    resources:
        mem_mb=DEMANDS.memory(),
        runtime=DEMANDS.time("evaluate"),
        gpu=DEMANDS.gpus,
        batch_tokens=CONFIG.evaluation.batch_tokens,
    params:
        **evaluation_params(),
    script:
        "../scripts/evaluate_stage.py"


rule evaluate_stage:
    input:
        snapshot=SNAPSHOT,
        tasks=[TASKS / f"{task}.parquet" for task in ROLES],
        adapters=lambda wildcards: adapters_upto(wildcards, int(wildcards.stage)),
    output:
        output=STAGE / "evaluation.parquet",
        record=STAGE / "evaluation.json",
    log:
        LOGS / "evaluate_stage" / "{method}-order{order}-seed{seed}-stage{stage}.log",
    benchmark:
        BENCHMARKS / "evaluate_stage" / "{method}-order{order}-seed{seed}-stage{stage}.tsv"
    conda:
        ENVIRONMENT
    resources:
        mem_mb=DEMANDS.memory(),
        runtime=DEMANDS.time("evaluate"),
        gpu=DEMANDS.gpus,
        batch_tokens=CONFIG.evaluation.batch_tokens,
    params:
        **evaluation_params(),
    script:
        "../scripts/evaluate_stage.py"


rule tabulate_results:
    input:
        evaluations=[path for chain in CHAINS for path in chain_evaluations(chain)],
        reference=REFERENCE,
    output:
        accuracy=accuracy_files(),
        curves=SUITE / "accuracy.parquet",
        measures=SUITE / "measures.parquet",
        table=SUITE / "table1.csv",
        markdown=SUITE / "table1.md",
        latex=SUITE / "table1.tex",
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
        statistics=SETTINGS["statistics"],
        code=script_digest("tabulate_results"),
    script:
        "../scripts/tabulate_results.py"

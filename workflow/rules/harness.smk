"""Tasks of lm-evaluation-harness, asked of the checkpoints that held-out sets are asked of."""

HARNESS_TABLE = PLACES.experiment / "harness.csv"

if CONFIG.evaluation.harness:

    rule evaluate_harness_base:
        input:
            snapshot=PLACES.snapshot,
            task_files=EXPERIMENT.harness_task_files(),
        output:
            output=PLACES.base / "harness.parquet",
            metrics=PLACES.base / "harness_metrics.parquet",
            record=PLACES.base / "harness.json",
        log:
            LOGS / "evaluate_harness_base.log",
        conda:
            ENVIRONMENT
        threads: DEMANDS.threads
        resources:
            mem_mb=DEMANDS.memory(),
            runtime=DEMANDS.time("evaluate_harness"),
            gpu=DEMANDS.gpus,
            batch_tokens=CONFIG.evaluation.batch_tokens,
        params:
            **EXPERIMENT.harness_params(),
            code=called_digest("evaluate_harness"),
        script:
            "../scripts/evaluate_harness.py"

    use rule evaluate_harness_base as evaluate_harness with:
        input:
            snapshot=PLACES.snapshot,
            task_files=EXPERIMENT.harness_task_files(),
            adapters=EXPERIMENT.adapters,
        output:
            output=PLACES.stage / "harness.parquet",
            metrics=PLACES.stage / "harness_metrics.parquet",
            record=PLACES.stage / "harness.json",
        log:
            LOGS / "evaluate_harness" / "{method}-order{order}-seed{seed}-stage{stage}.log",
        priority: by_seed(0)
        params:
            method=lambda wildcards: EXPERIMENT.resolved[wildcards.method].base,
            code=method_digest("evaluate_harness", "engine"),

    rule tabulate_harness:
        input:
            found=EXPERIMENT.harness_files(CHAINS, "harness_metrics.parquet"),
        output:
            table=HARNESS_TABLE,
            record=PLACES.experiment / "harness.json",
        log:
            LOGS / "tabulate_harness.log",
        conda:
            ENVIRONMENT
        resources:
            mem_mb=1000,
            runtime=10,
        params:
            chains=CHAINS,
            stages=EXPERIMENT.harness_stages,
            code=called_digest("tabulate_harness"),
        script:
            "../scripts/tabulate_harness.py"

"""The model and the tasks."""


rule prepare_model:
    output:
        snapshot=directory(PREPARED),
        record=RESULTS / "models" / f"{CONFIG.model.name}.json",
    log:
        LOGS / "prepare_model.log",
    benchmark:
        BENCHMARKS / "prepare_model.tsv"
    priority: PRIORITY["model"]
    conda:
        ENVIRONMENT
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        # a function, as braces in a text would be read as wildcards
        source=lambda wildcards: CONFIG.model.source,
        sha256=CONFIG.model.sha256,
        code=script_digest("prepare_model"),
    script:
        "../scripts/prepare_model.py"


rule prepare_task:
    input:
        unpack(data_file),
    output:
        output=TASKS / "{task}.parquet",
        record=TASKS / "{task}.json",
    log:
        LOGS / "prepare_task" / "{task}.log",
    benchmark:
        BENCHMARKS / "prepare_task" / "{task}.tsv"
    priority: PRIORITY["model"]
    conda:
        ENVIRONMENT
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        name="{task}",
        data=data_settings,
        published=published_parts,
        seed=CONFIG.seed,
        pins=str(RESULTS / PINS),
        code=script_digest("prepare_task"),
    script:
        "../scripts/prepare_task.py"

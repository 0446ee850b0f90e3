"""The model and the tasks."""


rule prepare_model:
    output:
        snapshot=directory(PLACES.prepared),
        record=f"{PLACES.prepared}.json",
    log:
        LOGS / "prepare_model.log",
    priority: PRIORITY["model"]
    conda:
        ENVIRONMENT
    resources:
        mem_mb=DEMANDS.memory_of_preparation,
        runtime=60,
        gpu=0,  # a job with a model
    params:
        # a function, as braces in a text would be read as wildcards
        source=lambda wildcards: CONFIG.model.source,
        sha256=CONFIG.model.sha256,
        code=called_digest("prepare_model"),
    script:
        "../scripts/prepare_model.py"


rule prepare_task:
    input:
        unpack(TASKS.inputs),
    output:
        output=PLACES.tasks / "{task}.parquet",
        record=PLACES.tasks / "{task}.json",
    log:
        LOGS / "prepare_task" / "{task}.log",
    priority: PRIORITY["tasks"]
    conda:
        ENVIRONMENT
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        name="{task}",
        data=TASKS.settings,
        published=TASKS.entry,
        seed=CONFIG.seed,
        pins=str(PLACES.pins),
        code=called_digest("prepare_task"),
    script:
        "../scripts/prepare_task.py"

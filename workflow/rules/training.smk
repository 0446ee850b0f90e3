"""Sequential training, stage by stage."""


def adapter_needs(wildcards):
    """What of a method's needs a stage is told; its inputs tell the rest."""
    needs = RESOLVED[wildcards.method].needs
    return {"adapter": needs.adapter, "tuner": needs.tuner}


def training_params():
    """What a stage is trained with, besides its inputs."""
    return {
        "method": lambda wildcards: RESOLVED[wildcards.method].base,
        "needs": adapter_needs,
        "stage": lambda wildcards: int(wildcards.stage),
        "seed": lambda wildcards: int(wildcards.seed),
        "model": {
            "name": BASE_NAME,
            "source": "" if CONFIG.tuning.enabled else CONFIG.model.source,
            **MODEL_PLACEMENT,
        },
        "training": lambda wildcards: RESOLVED[wildcards.method].training_on(trained_task(wildcards)),
        "settings": lambda wildcards: RESOLVED[wildcards.method].settings,
        "guidance": lambda wildcards: RESOLVED[wildcards.method].guidance,
        "prompts": SETTINGS["prompts"],
    }


rule train_stage:
    input:
        unpack(stage_inputs),
        answered=answered_means,
        snapshot=SNAPSHOT,
    output:
        adapter=directory(STAGE / "adapter"),
        steps=STAGE / "training.parquet",
        record=STAGE / "training.json",
    log:
        LOGS / "train_stage" / "{method}-order{order}-seed{seed}-stage{stage}.log",
    benchmark:
        BENCHMARKS / "train_stage" / "{method}-order{order}-seed{seed}-stage{stage}.tsv"
    priority: by_seed("training")
    conda:
        ENVIRONMENT
    threads: DEMANDS.threads_of_stage
    resources:
        mem_mb=DEMANDS.memory_of_stage,
        runtime=DEMANDS.time("train_stage", resumes=True),
        gpu=DEMANDS.training_gpus,
        processes=DEMANDS.processes,
        batch_tokens=CONFIG.evaluation.batch_tokens,
        checkpoint_steps=CONFIG.training.checkpoint_steps,
    params:
        **training_params(),
        code=method_digest("train_stage", "method"),
    script:
        "../scripts/train_stage.py"

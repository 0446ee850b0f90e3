"""Sequential training, stage by stage."""


rule train_stage:
    input:
        unpack(EXPERIMENT.stage_inputs),
        answered=EXPERIMENT.answered_means,
        snapshot=PLACES.snapshot,
    output:
        adapter=directory(PLACES.stage / "adapter"),
        steps=PLACES.stage / "training.parquet",
        record=PLACES.stage / "training.json",
    log:
        LOGS / "train_stage" / "{method}-order{order}-seed{seed}-stage{stage}.log",
    priority: by_seed(2)
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
        **EXPERIMENT.training_params(),
        code=method_digest("train_stage", "method"),
    script:
        "../scripts/train_stage.py"

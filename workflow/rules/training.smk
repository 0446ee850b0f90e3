"""Sequential training, stage by stage."""


rule train_stage:
    input:
        unpack(stage_inputs),
        snapshot=SNAPSHOT,
    output:
        adapter=directory(STAGE / "adapter"),
        steps=STAGE / "training.parquet",
        record=STAGE / "training.json",
    log:
        LOGS / "train_stage" / "{method}-order{order}-seed{seed}-stage{stage}.log",
    benchmark:
        BENCHMARKS / "train_stage" / "{method}-order{order}-seed{seed}-stage{stage}.tsv"
    conda:
        ENVIRONMENT
    resources:
        mem_mb=6000,
        runtime=240,
        batch_tokens=CONFIG.evaluation.batch_tokens,
        checkpoint_steps=CONFIG.training.checkpoint_steps,
    params:
        method="{method}",
        seed=lambda wildcards: int(wildcards.seed),
        model=config_section(CONFIG, "model.name", "model.dtype", "model.device")["model"],
        training={
            k: v
            for k, v in SETTINGS["training"].items()
            if k not in ("methods", "seeds", "checkpoint_steps")
        },
        guidance=lambda wildcards: SETTINGS["guidance"] if wildcards.method.endswith("-ivg") else None,
        prompts=SETTINGS["prompts"],
        code=script_digest("train_stage"),
    script:
        "../scripts/train_stage.py"

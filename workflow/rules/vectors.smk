"""Mean activations, causal effects, ranking of heads, instruction vectors, interventions, and vectors after training."""

OPTIMISED = None  # how vectors are optimised, where they are
if CONFIG.vectors.extractor == "optimised":
    OPTIMISED = {
        **SETTINGS["vectors"]["optimised"],
        "examples": CONFIG.vectors.activation_prompts,
        "prompts": SETTINGS["prompts"],
        "max_input_tokens": CONFIG.training.max_input_tokens,
        "seed": CONFIG.seed,
    }


rule average_activations:
    input:
        snapshot=PLACES.snapshot,
        task=PLACES.tasks / "{task}.parquet",
    output:
        prompt_table=PLACES.vectors / "{task}" / "prompts.parquet",
        mean=PLACES.vectors / "{task}" / "mean_activations.safetensors",
        record=PLACES.vectors / "{task}" / "mean_activations.json",
    log:
        LOGS / "average_activations" / "{task}.log",
    priority: PRIORITY["vectors"]
    conda:
        ENVIRONMENT
    threads: DEMANDS.threads
    resources:
        mem_mb=DEMANDS.memory(),
        runtime=DEMANDS.time("average_activations"),
        gpu=DEMANDS.gpus,
        batch_tokens=CONFIG.evaluation.batch_tokens,
    params:
        name="{task}",
        model=EXPERIMENT.placement,
        vectors=config_section(
            CONFIG,
            "vectors.shots",
            "vectors.activation_prompts",
            "vectors.effect_prompts",
            "vectors.include_instruction",
        )["vectors"],
        prompts=SETTINGS["prompts"],
        max_input_tokens=CONFIG.training.max_input_tokens,
        seed=CONFIG.seed,
        code=called_digest("average_activations"),
    script:
        "../scripts/average_activations.py"


rule sweep_heads:
    input:
        snapshot=PLACES.snapshot,
        prompt_table=PLACES.vectors / "{task}" / "prompts.parquet",
        mean=PLACES.vectors / "{task}" / "mean_activations.safetensors",
    output:
        effects=PLACES.vectors / "{task}" / "causal_effects-{scatteritem}.parquet",
        record=PLACES.vectors / "{task}" / "causal_effects-{scatteritem}.json",
    log:
        LOGS / "sweep_heads" / "{task}-{scatteritem}.log",
    priority: PRIORITY["vectors"]
    conda:
        ENVIRONMENT
    threads: DEMANDS.threads
    resources:
        mem_mb=DEMANDS.memory(),
        runtime=DEMANDS.time("sweep_heads"),
        gpu=DEMANDS.gpus,
        batch_tokens=CONFIG.evaluation.batch_tokens,
    params:
        name="{task}",
        model=EXPERIMENT.placement,
        target=CONFIG.vectors.target,
        shard=lambda wildcards: int(wildcards.scatteritem.split("-of-")[0]) - 1,
        # not sweep.shards, which --set-scatter may overrule
        shards=lambda wildcards: int(wildcards.scatteritem.split("-of-")[1]),
        code=called_digest("sweep_heads"),
    script:
        "../scripts/sweep_heads.py"


rule rank_heads:
    input:
        shards=[
            path
            for task in EXPERIMENT.ranked_tasks
            for path in gather.sweep(f"{PLACES.vectors}/{task}/causal_effects-{{scatteritem}}.parquet")
        ],
    output:
        effects=PLACES.vector_files(EXPERIMENT.ranked_tasks, "causal_effects.parquet"),
        heads=PLACES.heads,
        record=PLACES.vectors / "heads.json",
    log:
        LOGS / "rank_heads.log",
    priority: PRIORITY["vectors"]
    conda:
        ENVIRONMENT
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        tasks=EXPERIMENT.ranked_tasks,
        vectors=config_section(CONFIG, "vectors.rank_by", "vectors.heads", "vectors.head_list")["vectors"],
        code=called_digest("rank_heads"),
    script:
        "../scripts/rank_heads.py"


rule build_vectors:
    input:
        snapshot=PLACES.snapshot,
        heads=PLACES.heads,
        means=PLACES.vector_files(EXPERIMENT.vector_tasks, "mean_activations.safetensors"),
        tables=PLACES.task_files(EXPERIMENT.vector_tasks) if OPTIMISED else [],
    output:
        vectors=EXPERIMENT.vector_files(),
        record=PLACES.vectors / "instruction_vectors.json",
    log:
        LOGS / "build_vectors.log",
    priority: PRIORITY["vectors"]
    conda:
        ENVIRONMENT
    threads: DEMANDS.threads
    resources:
        mem_mb=DEMANDS.memory(),
        runtime=DEMANDS.time("build_vectors"),
        gpu=DEMANDS.gpus,
        batch_tokens=CONFIG.evaluation.batch_tokens,
    params:
        tasks=EXPERIMENT.vector_tasks,
        model=EXPERIMENT.placement,
        optimised=OPTIMISED,
        code=called_digest("build_vectors"),
    script:
        "../scripts/build_vectors.py"


rule intervene:
    input:
        snapshot=PLACES.snapshot,
        task=PLACES.tasks / "{task}.parquet",
        vector=PLACES.vectors / "{task}" / "instruction_vector.safetensors",
    output:
        output=PLACES.vectors / "{task}" / "interventions.parquet",
        record=PLACES.vectors / "{task}" / "interventions.json",
    log:
        LOGS / "intervene" / "{task}.log",
    conda:
        ENVIRONMENT
    threads: DEMANDS.threads
    resources:
        mem_mb=DEMANDS.memory(),
        runtime=DEMANDS.time("intervene"),
        gpu=DEMANDS.gpus,
        batch_tokens=CONFIG.evaluation.batch_tokens,
    params:
        name="{task}",
        model=EXPERIMENT.placement,
        interventions=config_section(
            CONFIG, "interventions.layers", "interventions.examples", "interventions.shots"
        )["interventions"],
        prompts=SETTINGS["prompts"],
        max_input_tokens=CONFIG.training.max_input_tokens,
        seed=CONFIG.seed,
        code=called_digest("intervene"),
    script:
        "../scripts/intervene.py"


rule recover:
    input:
        snapshot=PLACES.snapshot,
        tasks=PLACES.task_files(EXPERIMENT.recovered_sets),
        vectors=PLACES.vector_files(EXPERIMENT.recovered_sets, "instruction_vector.safetensors"),
        interventions=EXPERIMENT.interventions_of(EXPERIMENT.recovered_sets),
        adapters=EXPERIMENT.last_adapters,
    output:
        output=PLACES.chain / "recovery.parquet",
        record=PLACES.chain / "recovery.json",
    log:
        LOGS / "recover" / "{method}-order{order}-seed{seed}.log",
    conda:
        ENVIRONMENT
    threads: DEMANDS.threads
    resources:
        mem_mb=DEMANDS.memory(),
        runtime=DEMANDS.time("recover"),
        gpu=DEMANDS.gpus,
        batch_tokens=CONFIG.evaluation.batch_tokens,
    params:
        sets=EXPERIMENT.recovered_sets,
        chain=lambda wildcards: {
            "method": wildcards.method,
            "order": int(wildcards.order),
            "seed": int(wildcards.seed),
        },
        model=EXPERIMENT.placement,
        settings=config_section(CONFIG, "interventions.examples", "interventions.shots")["interventions"],
        prompts=SETTINGS["prompts"],
        max_input_tokens=CONFIG.training.max_input_tokens,
        seed=CONFIG.seed,
        code=called_digest("recover"),
    script:
        "../scripts/recover.py"

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
        snapshot=SNAPSHOT,
        task=TASKS / "{task}.parquet",
    output:
        prompt_table=VECTORS / "{task}" / "prompts.parquet",
        mean=VECTORS / "{task}" / "mean_activations.safetensors",
        record=VECTORS / "{task}" / "mean_activations.json",
    log:
        LOGS / "average_activations" / "{task}.log",
    benchmark:
        BENCHMARKS / "average_activations" / "{task}.tsv"
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
        model=MODEL_PLACEMENT,
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
        code=script_digest("average_activations"),
    script:
        "../scripts/average_activations.py"


rule sweep_heads:
    input:
        snapshot=SNAPSHOT,
        prompt_table=VECTORS / "{task}" / "prompts.parquet",
        mean=VECTORS / "{task}" / "mean_activations.safetensors",
    output:
        effects=VECTORS / "{task}" / "causal_effects-{scatteritem}.parquet",
        record=VECTORS / "{task}" / "causal_effects-{scatteritem}.json",
    log:
        LOGS / "sweep_heads" / "{task}-{scatteritem}.log",
    benchmark:
        BENCHMARKS / "sweep_heads" / "{task}-{scatteritem}.tsv"
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
        model=MODEL_PLACEMENT,
        target=CONFIG.vectors.target,
        shard=lambda wildcards: int(wildcards.scatteritem.split("-of-")[0]) - 1,
        shards=CONFIG.sweep.shards,
        code=script_digest("sweep_heads"),
    script:
        "../scripts/sweep_heads.py"


rule rank_heads:
    input:
        shards=[
            path
            for task in RANK_TASKS
            for path in gather.sweep(f"{VECTORS}/{task}/causal_effects-{{scatteritem}}.parquet")
        ],
    output:
        effects=[VECTORS / task / "causal_effects.parquet" for task in RANK_TASKS],
        heads=HEADS,
        record=VECTORS / "heads.json",
    log:
        LOGS / "rank_heads.log",
    benchmark:
        BENCHMARKS / "rank_heads.tsv"
    priority: PRIORITY["vectors"]
    conda:
        ENVIRONMENT
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        tasks=RANK_TASKS,
        vectors=config_section(CONFIG, "vectors.rank_by", "vectors.heads", "vectors.head_list")["vectors"],
        code=script_digest("rank_heads"),
    script:
        "../scripts/rank_heads.py"


rule build_vectors:
    input:
        snapshot=SNAPSHOT,
        heads=HEADS,
        means=[VECTORS / task / "mean_activations.safetensors" for task in VECTOR_TASKS],
        tables=[TASKS / f"{task}.parquet" for task in VECTOR_TASKS if OPTIMISED],
    output:
        vectors=vector_files(),
        record=VECTORS / "instruction_vectors.json",
    log:
        LOGS / "build_vectors.log",
    benchmark:
        BENCHMARKS / "build_vectors.tsv"
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
        tasks=VECTOR_TASKS,
        model=MODEL_PLACEMENT,
        optimised=OPTIMISED,
        code=script_digest("build_vectors"),
    script:
        "../scripts/build_vectors.py"


rule intervene:
    input:
        snapshot=SNAPSHOT,
        task=TASKS / "{task}.parquet",
        vector=VECTORS / "{task}" / "instruction_vector.safetensors",
    output:
        output=VECTORS / "{task}" / "interventions.parquet",
        record=VECTORS / "{task}" / "interventions.json",
    log:
        LOGS / "intervene" / "{task}.log",
    benchmark:
        BENCHMARKS / "intervene" / "{task}.tsv"
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
        model=MODEL_PLACEMENT,
        interventions=config_section(
            CONFIG, "interventions.layers", "interventions.examples", "interventions.shots"
        )["interventions"],
        prompts=SETTINGS["prompts"],
        max_input_tokens=CONFIG.training.max_input_tokens,
        seed=CONFIG.seed,
        code=script_digest("intervene"),
    script:
        "../scripts/intervene.py"


def chains_of(wildcards):
    """The chains of a method in one order, of all seeds."""
    return [c for c in CHAINS if (c["method"], str(c["order"])) == (wildcards.method, wildcards.order)]


def last_adapters(wildcards):
    """What makes the models after the last stage, chain by chain."""
    return [path for chain in chains_of(wildcards) for path in adapters_upto(chain, len(TRAIN_TASKS))]


rule recover:
    input:
        snapshot=SNAPSHOT,
        tasks=[TASKS / f"{task}.parquet" for task in RECOVERED_SETS],
        vectors=[VECTORS / task / "instruction_vector.safetensors" for task in RECOVERED_SETS],
        interventions=interventions_of(RECOVERED_SETS),
        adapters=last_adapters,
    output:
        output=SUITE / "{method}" / "order{order}" / "recovery.parquet",
        record=SUITE / "{method}" / "order{order}" / "recovery.json",
    log:
        LOGS / "recover" / "{method}-order{order}.log",
    benchmark:
        BENCHMARKS / "recover" / "{method}-order{order}.tsv"
    conda:
        ENVIRONMENT
    threads: DEMANDS.threads
    resources:
        mem_mb=DEMANDS.memory(),
        runtime=DEMANDS.time("recover"),
        gpu=DEMANDS.gpus,
        batch_tokens=CONFIG.evaluation.batch_tokens,
    params:
        sets=RECOVERED_SETS,
        chains=chains_of,
        model=MODEL_PLACEMENT,
        settings=config_section(CONFIG, "interventions.examples", "interventions.shots")["interventions"],
        prompts=SETTINGS["prompts"],
        max_input_tokens=CONFIG.training.max_input_tokens,
        seed=CONFIG.seed,
        code=script_digest("recover"),
    script:
        "../scripts/recover.py"

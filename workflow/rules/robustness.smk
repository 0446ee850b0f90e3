"""How much vectors depend on the prompts they are made from: those of heads, and optimised ones."""

ROBUSTNESS_TABLE = DYNAMICS / "robustness.parquet"
VARIED_SETS = held_out_sets(CONFIG) if CONFIG.analyses.robustness.prompts else ()

# As the traces: made on request, and shown from then on.
if VARIED_SETS and os.path.exists(ROBUSTNESS_TABLE):
    FIGURE_NAMES.append("robustness")
    ON_REQUEST.append(ROBUSTNESS_TABLE)


def robustness_files():
    return [ROBUSTNESS_TABLE, *figure_files(["robustness"])] if VARIED_SETS else []


rule measure_robustness:
    input:
        snapshot=SNAPSHOT,
        task=TASKS / "{task}.parquet",
        heads=HEADS,
        initial=BASE / "initial_heads.safetensors",
    output:
        table=BASE / "robustness" / "{task}.parquet",
        record=BASE / "robustness" / "{task}.json",
    log:
        LOGS / "measure_robustness" / "{task}.log",
    benchmark:
        BENCHMARKS / "measure_robustness" / "{task}.tsv"
    conda:
        ENVIRONMENT
    threads: DEMANDS.threads
    resources:
        mem_mb=DEMANDS.memory(),
        runtime=DEMANDS.time("measure_robustness"),
        gpu=DEMANDS.gpus,
        batch_tokens=CONFIG.evaluation.batch_tokens,
    params:
        name="{task}",
        model=config_section(CONFIG, "model.dtype", "model.device", "model.gpus")["model"],
        robustness=SETTINGS["analyses"]["robustness"],
        optimised=config_section(
            CONFIG,
            "vectors.optimised.batch_size",
            "vectors.optimised.learning_rate",
            "vectors.optimised.norm",
        )["vectors"]["optimised"],
        asking={
            "shots": CONFIG.vectors.shots,
            "include_instruction": CONFIG.vectors.include_instruction,
            "examples": CONFIG.analyses.examples,
        },
        prompts=SETTINGS["prompts"],
        max_input_tokens=CONFIG.training.max_input_tokens,
        seed=CONFIG.seed,
        code=script_digest("measure_robustness"),
    script:
        "../scripts/measure_robustness.py"


rule tabulate_robustness:
    input:
        parts=[BASE / "robustness" / f"{name}.parquet" for name in VARIED_SETS],
    output:
        table=ROBUSTNESS_TABLE,
    log:
        LOGS / "tabulate_robustness.log",
    benchmark:
        BENCHMARKS / "tabulate_robustness.tsv"
    conda:
        ENVIRONMENT
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        code=script_digest("join_tables"),
    script:
        "../scripts/join_tables.py"


rule plot_robustness:
    input:
        frame=ROBUSTNESS_TABLE,
    output:
        pdf=report(
            FIGURES / "robustness.pdf",
            caption="../report/robustness.rst",
            category="Vectors",
        ),
        png=FIGURES / "robustness.png",
        csv=FIGURES / "robustness.csv",
    log:
        LOGS / "plot_robustness.log",
    benchmark:
        BENCHMARKS / "plot_robustness.tsv"
    conda:
        ENVIRONMENT
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        code=script_digest("plot_robustness"),
    script:
        "../scripts/plot_robustness.py"

"""Why the model forgets, after every stage (arXiv 2601.18699). Nothing here belongs to a plain run."""

PROBES = SUITE / "base" / "stage0" / "mechanisms"
STAGE_PROBES = STAGE / "mechanisms"
MECHANISMS = SUITE / "mechanisms"
CLAIMS = Path(workflow.basedir) / "workflow" / "reference" / "mechanisms_claims.csv"
MECHANISM_FIGURES = {
    "interference": "interference",
    "drift": "drift",
    "disruption": "heads",
    "landscape": "landscape",
    "predictors": "pairs",
}
MECHANISM_TEXTS = {name: MECHANISMS / f"{name}.csv" for name in ("comparison", "predictors", "claims")}
PROBED = CONFIG.mechanisms.methods or [name for name, found in RESOLVED.items() if is_sum_of_adapters(found)]
PROBED_SEEDS = CONFIG.mechanisms.seeds or CONFIG.training.seeds[:1]
PROBED_CHAINS = [chain for chain in CHAINS if chain["method"] in PROBED and chain["seed"] in PROBED_SEEDS]
PROBED_STAGES = [
    {**chain, "stage": stage} for chain in PROBED_CHAINS for stage in range(1, len(TRAIN_TASKS) + 1)
]

# Measured on request; once the tables are there, figures and report show them and keep them up to date.
if all(os.path.exists(table) for table in MECHANISM_TEXTS.values()):
    FIGURE_NAMES += [f"mechanisms_{figure}" for figure in MECHANISM_FIGURES]
    ON_REQUEST += [
        *MECHANISM_TEXTS.values(),
        *expand(FIGURES / "mechanisms_{name}.txt", name=MECHANISM_FIGURES),
    ]


def mechanism_files():
    return [
        *expand(
            FIGURES / "mechanisms_{figure}.{kind}",
            figure=MECHANISM_FIGURES,
            kind=["pdf", "png", "csv", "txt"],
        ),
        MECHANISMS / "mechanisms.md",
    ]


def stage_tables(name):
    """A table of every stage, chain after chain."""
    return [str(STAGE_PROBES / f"{name}.parquet").format(**stage) for stage in PROBED_STAGES]


def probe_params():
    """What all models are measured with."""
    return {
        "sets": list(ROLES),
        "model": config_section(CONFIG, "model.dtype", "model.device", "model.gpus")["model"],
        "prompts": SETTINGS["prompts"],
        "seed": CONFIG.seed,
        "mechanisms": {
            key: value
            for key, value in SETTINGS["mechanisms"].items()
            if key not in ("methods", "seeds", "cutoffs")
        },
    }


rule probe_base:
    input:
        snapshot=SNAPSHOT,
        tasks=[TASKS / f"{task}.parquet" for task in ROLES],
    output:
        states=PROBES / "states.safetensors",
        gradients=PROBES / "gradients.parquet",
        similarity=PROBES / "similarity.parquet",
        losses=PROBES / "losses.parquet",
        record=PROBES / "probes.json",
    log:
        LOGS / "probe_base.log",
    benchmark:
        BENCHMARKS / "probe_base.tsv"
    conda:
        ENVIRONMENT
    threads: DEMANDS.threads
    resources:
        mem_mb=DEMANDS.memory(training=True),
        runtime=DEMANDS.time("train_stage"),
        gpu=DEMANDS.gpus,
        batch_tokens=CONFIG.evaluation.batch_tokens,
    params:
        **probe_params(),
        code=script_digest("probe_base"),
    script:
        "../scripts/probe_base.py"


rule probe_stage:
    input:
        snapshot=SNAPSHOT,
        tasks=[TASKS / f"{task}.parquet" for task in ROLES],
        states=PROBES / "states.safetensors",
        adapters=lambda wildcards: adapters_upto(wildcards, int(wildcards.stage)),
    output:
        gradients=STAGE_PROBES / "gradients.parquet",
        similarity=STAGE_PROBES / "similarity.parquet",
        losses=STAGE_PROBES / "losses.parquet",
        drift=STAGE_PROBES / "drift.parquet",
        heads=STAGE_PROBES / "heads.parquet",
        routing=STAGE_PROBES / "routing.parquet",
        landscape=STAGE_PROBES / "landscape.parquet",
        record=STAGE_PROBES / "probes.json",
    log:
        LOGS / "probe_stage" / "{method}-order{order}-seed{seed}-stage{stage}.log",
    benchmark:
        BENCHMARKS / "probe_stage" / "{method}-order{order}-seed{seed}-stage{stage}.tsv"
    conda:
        ENVIRONMENT
    threads: DEMANDS.threads
    resources:
        mem_mb=DEMANDS.memory(training=True),
        runtime=DEMANDS.time("train_stage"),
        gpu=DEMANDS.gpus,
        batch_tokens=CONFIG.evaluation.batch_tokens,
    params:
        **probe_params(),
        followed=lambda wildcards: trained_task(wildcards, 1),
        code=script_digest("probe_stage"),
    script:
        "../scripts/probe_stage.py"


rule tabulate_mechanisms:
    input:
        curves=SUITE / "accuracy.parquet",
        vectors=[VECTORS / task / "instruction_vector.safetensors" for task in ROLES],
        reference=CLAIMS,
        base_gradients=PROBES / "gradients.parquet",
        base_similarity=PROBES / "similarity.parquet",
        base_losses=PROBES / "losses.parquet",
        gradients=stage_tables("gradients"),
        similarity=stage_tables("similarity"),
        losses=stage_tables("losses"),
        drift=stage_tables("drift"),
        heads=stage_tables("heads"),
        routing=stage_tables("routing"),
        landscape=stage_tables("landscape"),
    output:
        write_interference=MECHANISMS / "interference.parquet",
        write_drift=MECHANISMS / "drift.parquet",
        write_heads=MECHANISMS / "heads.parquet",
        write_routing=MECHANISMS / "routing.parquet",
        write_landscape=MECHANISMS / "landscape.parquet",
        write_pairs=MECHANISMS / "pairs.parquet",
        write_predictors=MECHANISM_TEXTS["predictors"],
        write_comparison=MECHANISM_TEXTS["comparison"],
        write_claims=MECHANISM_TEXTS["claims"],
        write_markdown=MECHANISMS / "mechanisms.md",
        record=MECHANISMS / "mechanisms.json",
    log:
        LOGS / "tabulate_mechanisms.log",
    benchmark:
        BENCHMARKS / "tabulate_mechanisms.tsv"
    conda:
        ENVIRONMENT
    resources:
        mem_mb=2000,
        runtime=20,
    params:
        sets=list(ROLES),
        chains=PROBED_CHAINS,
        orders=SETTINGS["suite"]["orders"],
        cutoffs=SETTINGS["mechanisms"]["cutoffs"],
        statistics=INTERVALS,
        code=script_digest("tabulate_mechanisms"),
    script:
        "../scripts/tabulate_mechanisms.py"


rule plot_mechanisms:
    input:
        frame=lambda wildcards: MECHANISMS / f"{MECHANISM_FIGURES[wildcards.figure]}.parquet",
        comparison=MECHANISM_TEXTS["comparison"],
        predictors=MECHANISM_TEXTS["predictors"],
    output:
        pdf=report(
            FIGURES / "mechanisms_{figure}.pdf",
            caption="../report/mechanisms.rst",
            category="Mechanisms",
        ),
        png=FIGURES / "mechanisms_{figure}.png",
        csv=FIGURES / "mechanisms_{figure}.csv",
        caption=FIGURES / "mechanisms_{figure}.txt",
    log:
        LOGS / "plot_mechanisms" / "{figure}.log",
    benchmark:
        BENCHMARKS / "plot_mechanisms" / "{figure}.tsv"
    wildcard_constraints:
        figure="|".join(MECHANISM_FIGURES),
    conda:
        ENVIRONMENT
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        figure="{figure}",
        cutoffs=SETTINGS["mechanisms"]["cutoffs"],
        code=script_digest("plot_mechanisms"),
    script:
        "../scripts/plot_mechanisms.py"

"""What happens inside the models from stage to stage: traces of checkpoints, their tables and figures."""

from anamnesis.config.analysed import held_out_sets, paraphrased

PARAPHRASES = paraphrased(CONFIG)
DYNAMICS = SUITE / "dynamics"
TRACES = ["alignment", "drift", "conditions", "causal_effects"]
TRACED_CHAINS = [
    chain for chain in CHAINS if chain["method"] in ANALYSED.methods and chain["seed"] in ANALYSED.seeds
]
TRACED_PLACES = [{**chain, "stage": stage} for chain in TRACED_CHAINS for stage in (0, *ANALYSED.stages)]
DYNAMICS_FIGURES = ["form_changes", "conditions", "alignment", "drift", "effect_maps", "recovery"]
SETTINGS_TABLES = ["task_forms", "data", "templates", "orders", "training", "vectors"]
DYNAMICS_TABLES = [DYNAMICS / f"{name}.parquet" for name in ("alignment", "drift", "conditions", "heads")]

SETTINGS_FILES = expand(SUITE / "settings" / "{name}.{kind}", name=SETTINGS_TABLES, kind=["csv", "md", "tex"])

# Traces are made on request; once they are there, figures and report show them and keep them up to date.
if all(os.path.exists(table) for table in [*DYNAMICS_TABLES, *SETTINGS_FILES]):
    FIGURE_NAMES += DYNAMICS_FIGURES
    ON_REQUEST += [*DYNAMICS_TABLES, *SETTINGS_FILES]


def trace_files(names=TRACES, places=TRACED_PLACES):
    """Files of the tables ``names`` at every place; stage 0 is the same for all chains."""
    folders = [STAGE if place["stage"] else BASE for place in places]
    return [
        str(folder / f"{name}.parquet").format(**place)
        for folder, place in zip(folders, places)
        for name in names
    ]


def wording_params(paraphrases):
    """How the sets with other wordings are evaluated; asked in those words only where ``paraphrases`` has any."""
    return {
        "sets": [
            {
                "name": name,
                "role": ROLES[name],
                "max_new_tokens": answer_length(name),
                "metric": metric(name) or "accuracy",
            }
            for name in PARAPHRASES
        ],
        "paraphrases": paraphrases,
        "scoring": {
            "scorer": CONFIG.evaluation.scorer,
            "max_input_tokens": CONFIG.training.max_input_tokens,
        },
    }


def trace_params():
    return {
        "sets": ANALYSED.sets,
        "model": config_section(CONFIG, "model.dtype", "model.device", "model.gpus")["model"],
        "analyses": config_section(
            CONFIG,
            "analyses.examples",
            "analyses.layers",
            "analyses.effect_prompts",
            "analyses.random_sets",
        )["analyses"],
        "target": CONFIG.vectors.target,
        "shots": CONFIG.evaluation.shots,
        "prompts": SETTINGS["prompts"],
        "seed": CONFIG.seed,
        "code": script_digest("trace_stage"),
    }


rule trace_base:
    input:
        snapshot=SNAPSHOT,
        heads=HEADS,
        tasks=[TASKS / f"{name}.parquet" for name in ANALYSED.sets],
        prompt_tables=[VECTORS / name / "prompts.parquet" for name in ANALYSED.sets],
        worded=[TASKS / f"{name}.parquet" for name in PARAPHRASES],
    output:
        alignment=BASE / "alignment.parquet",
        drift=BASE / "drift.parquet",
        conditions=BASE / "conditions.parquet",
        effects=BASE / "causal_effects.parquet",
        wordings=BASE / "wordings.parquet",
        sufficiency=BASE / "sufficiency.parquet",
        kept=BASE / "initial_heads.safetensors",
        record=BASE / "trace.json",
    log:
        LOGS / "trace_base.log",
    benchmark:
        BENCHMARKS / "trace_base.tsv"
    conda:
        ENVIRONMENT
    threads: DEMANDS.threads
    resources:
        mem_mb=DEMANDS.memory(),
        runtime=DEMANDS.time("trace"),
        gpu=DEMANDS.gpus,
        batch_tokens=CONFIG.evaluation.batch_tokens,
    params:
        **trace_params(),
        every_layer=False,
        wording=wording_params(PARAPHRASES),
    script:
        "../scripts/trace_stage.py"


rule trace_stage:
    input:
        snapshot=SNAPSHOT,
        heads=HEADS,
        tasks=[TASKS / f"{name}.parquet" for name in ANALYSED.sets],
        prompt_tables=[VECTORS / name / "prompts.parquet" for name in ANALYSED.sets],
        worded=[TASKS / f"{name}.parquet" for name in PARAPHRASES],
        adapters=lambda wildcards: adapters_upto(wildcards, int(wildcards.stage)),
        initial=BASE / "initial_heads.safetensors",
    output:
        alignment=STAGE / "alignment.parquet",
        drift=STAGE / "drift.parquet",
        conditions=STAGE / "conditions.parquet",
        effects=STAGE / "causal_effects.parquet",
        wordings=STAGE / "wordings.parquet",
        record=STAGE / "trace.json",
    log:
        LOGS / "trace_stage" / "{method}-order{order}-seed{seed}-stage{stage}.log",
    benchmark:
        BENCHMARKS / "trace_stage" / "{method}-order{order}-seed{seed}-stage{stage}.tsv"
    conda:
        ENVIRONMENT
    threads: DEMANDS.threads
    resources:
        mem_mb=DEMANDS.memory(),
        runtime=DEMANDS.time("trace"),
        gpu=DEMANDS.gpus,
        batch_tokens=CONFIG.evaluation.batch_tokens,
    params:
        **trace_params(),
        every_layer=lambda wildcards: int(wildcards.stage) == ANALYSED.stages[-1],
        wording=lambda wildcards: wording_params(
            PARAPHRASES if int(wildcards.stage) == ANALYSED.stages[-1] else {}
        ),
    script:
        "../scripts/trace_stage.py"


rule tabulate_dynamics:
    input:
        traces=trace_files(),
        initial=HEADS,
    output:
        alignment=DYNAMICS_TABLES[0],
        drift=DYNAMICS_TABLES[1],
        conditions=DYNAMICS_TABLES[2],
        heads=DYNAMICS_TABLES[3],
        record=DYNAMICS / "tables.json",
    log:
        LOGS / "tabulate_dynamics.log",
    benchmark:
        BENCHMARKS / "tabulate_dynamics.tsv"
    conda:
        ENVIRONMENT
    resources:
        mem_mb=2000,
        runtime=20,
    params:
        places=TRACED_PLACES,
        rank_by=CONFIG.vectors.rank_by,
        code=script_digest("tabulate_dynamics"),
    script:
        "../scripts/tabulate_dynamics.py"


rule plot_dynamics:
    input:
        alignment=DYNAMICS_TABLES[0],
        drift=DYNAMICS_TABLES[1],
        conditions=DYNAMICS_TABLES[2],
        heads=DYNAMICS_TABLES[3],
        curves=SUITE / "accuracy.parquet",
    output:
        pdf=[
            report(FIGURES / f"{name}.pdf", caption=f"../report/{name}.rst", category="Dynamics")
            for name in DYNAMICS_FIGURES
        ],
        png=[FIGURES / f"{name}.png" for name in DYNAMICS_FIGURES],
        csv=[FIGURES / f"{name}.csv" for name in DYNAMICS_FIGURES],
    log:
        LOGS / "plot_dynamics.log",
    benchmark:
        BENCHMARKS / "plot_dynamics.tsv"
    conda:
        ENVIRONMENT
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        unit=CONFIG.vectors.rank_by,
        code=script_digest("plot_dynamics"),
    script:
        "../scripts/plot_dynamics.py"


rule tabulate_settings:
    input:
        **({"snapshot": SNAPSHOT} if CONFIG.prompts.chat_template else {}),
        tasks=[TASKS / f"{name}.parquet" for name in ROLES],
        heads=HEADS,
        means=[VECTORS / name / "mean_activations.json" for name in ROLES],
    output:
        tables=SETTINGS_FILES,
    log:
        LOGS / "tabulate_settings.log",
    benchmark:
        BENCHMARKS / "tabulate_settings.tsv"
    conda:
        ENVIRONMENT
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        config=SETTINGS,
        roles=ROLES,
        code=script_digest("tabulate_settings"),
    script:
        "../scripts/tabulate_settings.py"

"""Analyses made on request, from their registry: one rule for each kind of step. No plain run needs them."""

# What a job of a measuring rule needs, by what it does with the model.
NEEDS = {
    "forward": (DEMANDS.threads, {"mem_mb": DEMANDS.memory(), "gpu": DEMANDS.gpus}),
    "gradients": (DEMANDS.threads, {"mem_mb": DEMANDS.memory(training=True), "gpu": DEMANDS.gpus}),
    "training": (
        DEMANDS.threads_of_stage,
        {
            "mem_mb": DEMANDS.memory_of_stage,
            "gpu": DEMANDS.training_gpus,
            "processes": DEMANDS.processes,
        },
    ),
}

for analysis in ANALYSES:
    for step in analysis.measures:
        THREADS, RESOURCES = NEEDS[step.needs]

        rule:
            name:
                step.name
            input:
                *map(unpack, step.unpacked),
                **step.inputs,
            output:
                **step.outputs,
            log:
                LOGS / step.name / f"{step.each}.log" if step.each else LOGS / f"{step.name}.log",
            conda:
                ENVIRONMENT
            threads: THREADS
            resources:
                **RESOURCES,
                runtime=DEMANDS.time(step.time),
                batch_tokens=CONFIG.evaluation.batch_tokens,
            params:
                **step.params,
                call=step.call,
                code=(
                    method_digest("measure", "method", step.call)
                    if step.needs == "training"
                    else called_digest("measure", step.call)
                ),
            script:
                "../scripts/measure.py"

    for step in analysis.tables:

        rule:
            name:
                step.name
            input:
                **step.inputs,
            output:
                **step.outputs,
            log:
                LOGS / f"{step.name}.log",
            conda:
                ENVIRONMENT
            resources:
                mem_mb=2000,
                runtime=20,
            params:
                **step.params,
                call=step.call,
                inputs={name: isinstance(files, list) for name, files in step.inputs.items()},
                outputs=[name for name in step.outputs if name != "record"],
                code=called_digest("tabulate", step.call),
            script:
                "../scripts/tabulate.py"

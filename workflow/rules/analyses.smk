"""Analyses made on request, from their registry: one rule for each kind of step, and what the report shows of them.

Nothing here belongs to a plain run. Once an analysis has been made, figures and report show it and keep it up to date.
"""

from anamnesis.analyses.registry import analyses
from anamnesis.config.analysed import held_out_sets, paraphrased
from anamnesis.core.run import Run
from anamnesis.figures.core_figures import FORGETTING, core_figures

RUN = Run(
    config=CONFIG,
    settings=SETTINGS,
    model=MODEL_PLACEMENT,
    intervals=INTERVALS,
    snapshot=SNAPSHOT,
    tasks=TASKS,
    vectors=VECTORS,
    heads=HEADS,
    suite=SUITE,
    stage=STAGE,
    base=BASE,
    reference=REFERENCE.parent,
    roles=ROLES,
    chains=CHAINS,
    resolved=RESOLVED,
    summed=[name for name, found in RESOLVED.items() if is_sum_of_adapters(found)],
    followed=ANALYSED,
    held_out=held_out_sets(CONFIG),
    paraphrases=paraphrased(CONFIG),
    twins=TWINS,
    comparisons=COMPARISONS,
    compared=COMPARED,
    interventions=interventions_of(INTERVENED),
    recovered=recovery_files(),
    recovered_interventions=interventions_of(RECOVERED_SETS),
    adapters_upto=adapters_upto,
    stage_inputs=stage_inputs,
    training_params=training_params,
    trained_task=trained_task,
    answer_length=answer_length,
    metric=metric,
)
ANALYSES = analyses(RUN)
CORE_FIGURES = core_figures(RUN)
REGISTERED_FIGURES = [*CORE_FIGURES, *(figure for analysis in ANALYSES for figure in analysis.figures)]
MADE = [analysis for analysis in ANALYSES if analysis.asked and all(map(os.path.exists, analysis.results))]
SHOWN_FIGURES = [
    figure
    for figure in [*CORE_FIGURES, *(figure for analysis in MADE for figure in analysis.figures)]
    if figure.shown
]
FIGURE_NAMES = [figure.name for figure in SHOWN_FIGURES]

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


def figure_outputs(figure):
    """The texts that belong to a figure."""
    return [f"{FIGURES / figure.name}{ending}" for ending in figure.texts]


def analysis_results(analysis):
    """What the report shows of an analysis, besides its figures."""
    texts = [text for figure in analysis.figures for text in figure_outputs(figure)]
    return [*map(str, analysis.results), *texts]


def analysis_files(analysis):
    """What the target ``analyses`` makes of an analysis."""
    if not analysis.asked:
        return []
    shown = [figure.name for figure in analysis.figures if figure.shown]
    return [*analysis.results, *analysis.further, *figure_files(shown)]


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
            benchmark:
                BENCHMARKS / step.name / f"{step.each}.tsv" if step.each else BENCHMARKS / f"{step.name}.tsv"
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
            benchmark:
                BENCHMARKS / f"{step.name}.tsv"
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

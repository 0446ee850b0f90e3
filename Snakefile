"""Anamnesis: instruction vectors, guided training and forgetting, from a model and a list of tasks to a report."""

import logging
from copy import deepcopy
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.utils import min_version, update_config

min_version("9.22")
logging.raiseExceptions = False  # a log on a full disk must not bury the message in tracebacks

# not workflow.basedir, which is the folder of the workflow that includes this one or has it as a module
ROOT = Path(workflow.snakefile).absolute().parent
if not (ROOT / "workflow" / "rules").is_dir():
    raise WorkflowError(
        f"{workflow.snakefile}: the rules and the library are not next to this Snakefile; clone the repository and "
        "give the path of the Snakefile there, not of a link to it or a copy; of a repository on a git host give "
        'path="workflow/Snakefile"'
    )
GIVEN = deepcopy(config)


configfile: ROOT / "config.yaml"


update_config(config, GIVEN)  # what a workflow that includes this one has set stays


include: "workflow/rules/common.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/tuning.smk"
include: "workflow/rules/vectors.smk"
include: "workflow/rules/training.smk"
include: "workflow/rules/evaluation.smk"
include: "workflow/rules/harness.smk"
include: "workflow/rules/analyses.smk"
include: "workflow/rules/figures.smk"


rule all:
    default_target: True
    input:
        [PLACES.experiment / "first_table.md"] * (len(CONFIG.training.seeds) > 1),
        [PLACES.report] * bool(CHAINS),
        rules.tabulate_results.output,
        [HARNESS_TABLE] * (bool(CONFIG.evaluation.harness) and bool(CHAINS)),
        figure_files(SHOWN_FIGURES),


rule figures:
    input:
        figure_files(SHOWN_FIGURES),


rule tables:
    input:
        rules.tabulate_results.output,
        figure_files([figure for figure in CORE_FIGURES if figure.category == FORGETTING]),


rule mechanisms:
    input:
        of_own_chains,
        [analysis_files(analysis) for analysis in ANALYSES if analysis.name == "mechanisms"],


rule analyses:
    input:
        of_own_chains,
        [analysis_files(analysis) for analysis in ANALYSES],
        EXPERIMENT.interventions_of(EXPERIMENT.analysed.interventions),


rule vectors:
    input:
        PLACES.heads,
        EXPERIMENT.vector_files(),
        EXPERIMENT.interventions_of(CONFIG.interventions.sets),

"""Anamnesis: instruction vectors, guided training and forgetting, from a model and a list of tasks to a report."""

import logging
from pathlib import Path

from snakemake.utils import min_version

min_version("9.0")
logging.raiseExceptions = False  # a log on a full disk must not bury the message in tracebacks


configfile: Path(workflow.basedir) / "config.yaml"


include: "workflow/rules/common.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/vectors.smk"
include: "workflow/rules/training.smk"
include: "workflow/rules/evaluation.smk"
include: "workflow/rules/dynamics.smk"
include: "workflow/rules/mechanisms.smk"
include: "workflow/rules/figures.smk"


localrules:
    all,
    analyses,
    figures,
    vectors,
    mechanisms,


rule all:
    default_target: True
    input:
        RESULTS / "report.html",
        rules.tabulate_results.output,
        figure_files(FIGURE_NAMES),


rule figures:
    input:
        figure_files(FIGURE_NAMES),


rule mechanisms:
    input:
        mechanism_files(),


rule analyses:
    input:
        DYNAMICS_TABLES,
        rules.tabulate_settings.output,
        figure_files(DYNAMICS_FIGURES),
        mechanism_files(),


rule vectors:
    input:
        HEADS,
        vector_files(),
        expand(VECTORS / "{task}" / "interventions.parquet", task=CONFIG.interventions.sets),

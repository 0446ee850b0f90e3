"""Anamnesis: instruction vectors, guided training and forgetting, from a model and a list of tasks to a report."""

import logging
from pathlib import Path

from snakemake.utils import min_version

min_version("9.0")
logging.raiseExceptions = False  # a log on a full disk must not bury the message in tracebacks


configfile: Path(workflow.basedir) / "config.yaml"


include: "workflow/rules/common.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/tuning.smk"
include: "workflow/rules/vectors.smk"
include: "workflow/rules/training.smk"
include: "workflow/rules/evaluation.smk"
include: "workflow/rules/analyses.smk"
include: "workflow/rules/figures.smk"


localrules:
    all,
    analyses,
    figures,
    tables,
    vectors,
    mechanisms,


rule all:
    default_target: True
    input:
        [SUITE / "first_table.md"] * (len(CONFIG.training.seeds) > 1),
        [RESULTS / "report.html"] * bool(CHAINS),
        rules.tabulate_results.output,
        figure_files(FIGURE_NAMES),


rule figures:
    input:
        figure_files(FIGURE_NAMES),


rule tables:
    input:
        rules.tabulate_results.output,
        figure_files([f.name for f in CORE_FIGURES if f.shown and f.category == FORGETTING]),


rule mechanisms:
    input:
        of_own_chains,
        [analysis_files(analysis) for analysis in ANALYSES if analysis.name == "mechanisms"],


rule analyses:
    input:
        of_own_chains,
        [analysis_files(analysis) for analysis in ANALYSES],
        interventions_of(ANALYSED.interventions),


rule vectors:
    input:
        HEADS,
        vector_files(),
        interventions_of(CONFIG.interventions.sets),

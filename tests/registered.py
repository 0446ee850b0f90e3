"""What the registries of figures and analyses define for a configuration, without a workflow."""

from __future__ import annotations

from pathlib import Path

from anamnesis.analyses.registry import Analysis, analyses
from anamnesis.config.job_inputs import Experiment
from anamnesis.config.load import load_config
from anamnesis.config.models import Config
from anamnesis.core.run import Run

ROOT = Path(__file__).resolve().parents[1]


def run_of(config: Config) -> Run:
    """As ``rules/common.smk`` makes it."""
    return Experiment(config).run()


def registered(*files: str) -> list[Analysis]:
    """The analyses of config.yaml with further files of ``workflow/experiments`` on top."""
    experiments = ROOT / "workflow" / "experiments"
    return analyses(run_of(load_config([ROOT / "config.yaml", *(experiments / file for file in files)])))

"""What is not the library and runs with it goes into a wheel as ``anamnesis/repository``, where
core/repository.py finds it.

All else is said in pyproject.toml.
"""

from pathlib import Path
from shutil import copy, copytree, ignore_patterns, rmtree

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
FILES = ("Snakefile", "config.yaml")
FOLDERS = ("envs", "profiles", "workflow")
LEFT_OUT = ignore_patterns("anamnesis", "snakemake_logger_plugin_*", "*.egg-info", "__pycache__", "*.png")


class BuildWithWorkflow(build_py):
    """Copies the workflow as well, except for an editable installation, which has it in its checkout."""

    def run(self):
        super().run()
        if self.editable_mode:
            return
        target = Path(self.build_lib) / "anamnesis" / "repository"
        rmtree(target, ignore_errors=True)  # of an earlier build
        for folder in FOLDERS:
            copytree(ROOT / folder, target / folder, ignore=LEFT_OUT)
        for file in FILES:
            copy(ROOT / file, target)


setup(cmdclass={"build_py": BuildWithWorkflow})

"""Where the results of an experiment lie."""

from __future__ import annotations

from pathlib import Path

from anamnesis.config.models import Config
from anamnesis.data.places import PINS


class Layout:
    """The folders and files of a configuration's results, below ``results``.

    Experiments in one folder share what is the same for them: ``prepared`` and ``snapshot`` (the model as
    it came, and before training), ``tasks``, ``vectors`` and, in the folder ``suite``, the chains; paths of
    a stage have wildcards. What one experiment says of its chains lies in its own folder ``experiment``.
    """

    def __init__(self, config: Config):
        self.results = Path(config.results)
        self.logs = self.results / "logs"
        self.prepared = self.results / "models" / config.model.name
        self.tasks, self.pins = self.results / "tasks", self.results / PINS
        self.model = self.results / config.model.name
        self.tuned = self.model / "tuned"
        self.snapshot = self.tuned / "model" if config.tuning.enabled else self.prepared
        self.vectors = self.model / "vectors"
        self.heads = self.vectors / "heads.parquet"
        self.suite = self.model / config.suite.name
        self.chain = self.suite / "{method}" / "order{order}" / "seed{seed}"
        self.stage, self.base = self.chain / "stage{stage}", self.suite / "base" / "stage0"
        own = ("experiments", config.experiment) if config.experiment else ()
        self.experiment = self.suite.joinpath(*own)
        self.answers = [self.experiment / f"answer_{name}.csv" for name in ("changes", "shares", "counts")]
        self.figures, self.report = self.experiment / "figures", self.experiment / "report.html"

    def task_files(self, names) -> list[Path]:
        return [self.tasks / f"{name}.parquet" for name in names]

    def vector_files(self, names, file: str) -> list[Path]:
        """``file`` of every task of ``names``."""
        return [self.vectors / name / file for name in names]

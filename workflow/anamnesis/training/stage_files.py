"""The files that a stage is made from, and the digest by which an interrupted one is known again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from anamnesis.core.artifacts import digest_file, digest_json


@dataclass(frozen=True)
class StageFiles:
    """What a stage is made from.

    ``snapshot``: the base model; ``task``, ``past``: parquet files of the new task and of the others whose
    examples the method may see (``Stage.past``); ``earlier``: adapter folders, merged in their order, or the
    one that is trained on; ``heads``: the ranking; ``vector``, ``mean``: the task's instruction vector and
    mean activations; ``prompt_table``: its in-context prompts; ``task_means``: mean activations on other
    training tasks.
    """

    snapshot: str
    task: str
    earlier: Sequence[str] = ()
    past: Sequence[str] = ()
    heads: str | None = None
    vector: str | None = None
    mean: str | None = None
    prompt_table: str | None = None
    task_means: Sequence[str] = ()

    def identity(self, settings: Sequence) -> str:
        """Digest of all that determines a stage: only a checkpoint of the very same one may be continued."""
        guiding = [self.heads, self.vector, self.mean, self.prompt_table, *self.task_means]
        weights = [file for a in self.earlier for file in sorted(Path(a).rglob("*.safetensors"))]
        # a snapshot is replaced as a whole, and its weights may be huge
        made = Path(self.snapshot).stat().st_mtime_ns
        files = [digest_file(file) if file else None for file in [self.task, *self.past, *guiding, *weights]]
        return digest_json([list(settings), made, files])[:16]

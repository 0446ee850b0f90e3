"""Tables of what was run, from the configuration in force: CSV, Markdown and LaTeX."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from anamnesis.config.models import Config
from anamnesis.core.artifacts import read_json, read_parquet, write_text
from anamnesis.data.chat import template_for
from anamnesis.report import settings
from anamnesis.report.was_run import CAPTIONS


def main(
    tasks: Sequence[str],
    heads: str,
    means: Sequence[str],
    config: Mapping,
    roles: Mapping[str, str],
    tables: Sequence[str],
    snapshot: str | None = None,
) -> None:
    """Write ``tables``, three files for each name of ``CAPTIONS``. ``tasks`` and ``means`` (the
    records beside the mean activations): in the order of ``roles``. ``snapshot``: where a chat template of
    its tokenizer is in use.
    """
    from anamnesis.models.loading import load_tokenizer

    known = Config.model_validate(config)
    frames = {name: read_parquet(path) for name, path in zip(roles, tasks, strict=True)}
    records = {name: read_json(path) for name, path in zip(roles, means, strict=True)}
    template = template_for(known.prompts.model_dump(), load_tokenizer(Path(snapshot)) if snapshot else None)
    made = {
        "task_forms": settings.task_forms(frames),
        "data": settings.data_statistics(frames, roles),
        "templates": settings.templates(frames, template),
        "orders": settings.orders(known),
        "training": settings.hyper_parameters(known),
        "vectors": settings.vector_settings(known, read_parquet(heads), records),
    }
    write = {
        ".csv": lambda table, caption: table.to_csv(index=False, lineterminator="\n"),
        ".md": settings.as_markdown,
        ".tex": settings.as_latex,
    }
    for path in map(Path, tables):
        write_text(path, write[path.suffix](made[path.stem], CAPTIONS[path.stem]))


if __name__ == "__main__":
    from anamnesis.core.job import run_job

    run_job(snakemake, main)

"""Tables of what was run, for a paper's appendix."""

from __future__ import annotations

from anamnesis.analyses.registry import Analysis, Tabulate
from anamnesis.core.run import Run

HERE = "anamnesis.analyses.settings_tables"
NAMES = ("task_forms", "data", "templates", "orders", "training", "vectors")
KINDS = ("csv", "md", "tex")


def analysis(run: Run) -> Analysis:
    tables = {name: [run.experiment / "settings" / f"{name}.{kind}" for kind in KINDS] for name in NAMES}
    parts = ("base", "training", "settings", "guidance")
    methods = {name: {part: getattr(r, part) for part in parts} for name, r in run.resolved.items()}
    return Analysis(
        "settings_tables",
        [],
        [
            Tabulate(
                "tabulate_settings",
                f"{HERE}.tables:tabulate",
                {
                    **({"snapshot": run.snapshot} if run.config.prompts.chat_template else {}),
                    "tasks": run.task_files(run.roles),
                    "heads": run.heads,
                    "means": [run.vectors / name / "mean_activations.json" for name in run.roles],
                },
                tables,
                {"config": run.settings, "methods": methods, "roles": run.roles},
            )
        ],
        [],
        [file for files in tables.values() for file in files],
        f"{HERE}.section:sections",
    )

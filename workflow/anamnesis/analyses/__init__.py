"""Analyses of trained models, made on request: each a package that ``NAMES`` lists and nothing else knows.

``<name>/__init__.py`` registers its rules, tables, figures and section (``analyses.registry.Analysis``).
Modules are imported one by one, never from the package, so that the registration is in no digest of results.
No analysis imports another one; what several need stands in the modules of this folder.
"""

NAMES = (
    "checkpoints",
    "within_stage",
    "robustness",
    "open_questions",
    "mechanisms",
    "shift",
    "settings_tables",
)
"""In the order of the report."""

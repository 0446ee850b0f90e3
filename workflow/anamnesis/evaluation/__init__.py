"""Evaluation of every stage: scoring and generation, metrics, measures of forgetting, and the summary
table.
"""

GENERATED = "generated"
"""The ``scorer`` of answers that were written, not ranked."""

"""Evaluation of every stage: scoring and generation, metrics, measures of forgetting, and the summary
table.
"""

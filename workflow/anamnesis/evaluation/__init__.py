"""Evaluation of every stage: metrics, scorers, and records per example."""

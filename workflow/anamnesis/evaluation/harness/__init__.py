"""Tasks of lm-evaluation-harness (extra ``harness``), asked through the engine of this library."""

HARNESS = "harness"
"""Role and form of the harness's tasks in records and accuracy tables."""

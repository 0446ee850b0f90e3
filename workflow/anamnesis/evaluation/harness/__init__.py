"""Tasks of lm-evaluation-harness (extra ``harness``), asked through the engine of this library."""

"""What the work costs before it starts: sizes of models, operations, memory and time of jobs."""

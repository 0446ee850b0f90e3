"""What the work costs and where it runs: sizes of models, operations and memory of jobs, devices."""

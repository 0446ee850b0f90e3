"""What is called from a shell, as ``anamnesis <name>``; the Makefile has targets for most.

``check``         a configuration, without running anything in it
``write_config``  ``config.yaml``, its schema and its page, from the settings
``estimate``      what an experiment will cost
``headline``      where results are, and the first numbers
``compare``       tables and figures with reference ones
``watch``         how far a run is, while it goes on; ``run_state`` reads it
"""

"""What is called from a shell, as ``anamnesis <name>``; the Makefile has targets for most.

``check``         a configuration, without running anything in it
``write_config``  ``config.yaml``, its schema and its page, from the settings
``estimate``      what an experiment will cost
``headline``      where results are, and the first numbers
``compare``       tables and figures with reference ones
``export``        one model from a chain of adapters
``export_tasks``  prepared sets as tasks of lm-evaluation-harness
``watch``         how far a run is, while it goes on; ``run_state`` reads it
"""

import sys
from collections.abc import Callable

from anamnesis.core.errors import UserError

# a terminal that cannot show a sign, as in the locale C, gets a question mark in its place
for stream in (sys.stdout, sys.stderr):
    if hasattr(stream, "reconfigure"):
        stream.reconfigure(errors="replace")


def reported(work: Callable[[], object], start: str = "error") -> int:
    """Do the work of a command: 0, or 1 and one line for a mistake of the user."""
    try:
        work()
    except UserError as error:
        print(f"{start}: {error}", file=sys.stderr)
        return 1
    return 0

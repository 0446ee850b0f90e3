"""What is called from a shell, as ``anamnesis <name>``: ``__main__`` lists them."""

import sys
from collections.abc import Callable

from anamnesis.core.errors import UserError

# a terminal that cannot show a sign, as in the locale C, gets a question mark in its place
for stream in (sys.stdout, sys.stderr):
    if hasattr(stream, "reconfigure"):
        stream.reconfigure(errors="replace")


def reported(work: Callable[[], object], start: str = "error") -> int:
    """Do the work of a command: its exit status if it has one, 0 if it has none; 1 and one line for a mistake
    of the user.
    """
    try:
        result = work()
    except UserError as error:
        print(f"{start}: {error}", file=sys.stderr)
        return 1
    return result if isinstance(result, int) else 0

"""Reaching a hub: only when the configuration names one, and with errors that say what to do."""

from __future__ import annotations

import os

from anamnesis.core.errors import first_line

# Read as that library reads it, and at import: a job sets the variable for itself later.
USER_OFFLINE = os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")


def allow() -> None:
    """Let the hub library use the network, unless the user has set HF_HUB_OFFLINE. Call it before the library
    is imported.
    """
    os.environ["HF_HUB_OFFLINE"] = "1" if USER_OFFLINE else "0"
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")


def explain(name: str, error: Exception) -> str:
    """What went wrong with the repository ``name``, and the remedy, in one line. The classes of the library's
    errors are compared by name, which needs no import of it.
    """
    kinds = {kind.__name__ for kind in type(error).__mro__}
    if "GatedRepoError" in kinds:
        return (
            f"{name} is gated: accept its terms on its page and set HF_TOKEN to a token of the account that "
            "did"
        )
    if "RepositoryNotFoundError" in kinds:
        return f"{name}: no such repository, or a private one; check its name and, if private, HF_TOKEN"
    if "RevisionNotFoundError" in kinds:
        return f"{name}: no such revision; give a commit of that repository"
    return (
        f"{name} could not be fetched ({first_line(error)}); check the network, HF_ENDPOINT and "
        "HF_HUB_OFFLINE, and run again"
    )

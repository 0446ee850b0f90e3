"""Reaching a hub: only when the configuration names one, and with errors that say what to do.

The hub library caches files, resumes downloads and checks what it got. ``HF_ENDPOINT``, ``HF_HOME``,
``HF_TOKEN``, ``HF_HUB_OFFLINE`` and ``TRANSFORMERS_OFFLINE`` mean what they mean to it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from anamnesis.core.errors import first_line

_USERS_CHOICE = "ANAMNESIS_USER_OFFLINE"  # in the environment, for the processes that a job starts


def is_offline() -> bool:
    """Whether the user has said that no hub may be reached."""
    names = (_USERS_CHOICE,) if _USERS_CHOICE in os.environ else ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
    return any(os.environ.get(name, "").upper() in ("1", "ON", "YES", "TRUE") for name in names)


def keep_off() -> None:
    """Keep the libraries of this process, and of those that it starts, from asking a hub by themselves;
    :func:`download` still may, unless the user is offline. Call it before they are imported.
    """
    os.environ[_USERS_CHOICE] = "1" if is_offline() else "0"
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")


def download(
    kind: str, repository: str, revision: str | None, patterns: Sequence[str], cached: bool = False
) -> Path:
    """The folder, in the library's cache, of the files that match ``patterns`` at a revision (None: the
    newest). ``kind``: model or dataset; ``cached``: only what is there already. Raises what the library does.
    """
    from huggingface_hub import constants, snapshot_download

    cached, before = cached or is_offline(), constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = cached  # a job keeps the library off the hub
    try:
        folder = snapshot_download(
            repository,
            repo_type=kind,
            revision=revision,
            allow_patterns=list(patterns),
            local_files_only=cached,
        )
    finally:
        constants.HF_HUB_OFFLINE = before
    return Path(folder)


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
    if is_offline():
        return (
            f"{name}: its files are not all in the cache and HF_HUB_OFFLINE is set; unset it, or fill the "
            "cache on a machine with network"
        )
    return (
        f"{name} could not be fetched ({first_line(error)}); check the network, HF_ENDPOINT and "
        "HF_HUB_OFFLINE, and run again"
    )

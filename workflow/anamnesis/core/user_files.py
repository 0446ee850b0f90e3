"""Files and folders that a user names: whether they can be read and, if not, why."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

from anamnesis.core.errors import UserError


def no_file_at(path: str | Path) -> str | None:
    """Why there is no file to read at ``path``, in words; None where there is one."""
    return _nothing_at(path, "file", stat.S_ISREG, os.R_OK)


def no_folder_at(path: str | Path) -> str | None:
    """The same of a folder."""
    return _nothing_at(path, "folder", stat.S_ISDIR, os.R_OK | os.X_OK)


def _nothing_at(path: str | Path, kind: str, is_one: Callable[[int], bool], access: int) -> str | None:
    try:
        mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return f"no such {kind}"
    except OSError as error:  # a folder that may not be entered, a name that is too long, links in a circle
        return f"it cannot be reached ({error.strerror})"
    if not is_one(mode):
        return "it is a folder" if stat.S_ISDIR(mode) else f"it is no {kind}"
    return None if os.access(path, access) else "it may not be read, change its permissions"


def require_content(path: str | Path) -> None:
    """Raise UserError for a file that cannot be read, and for a pointer of Git LFS in its place."""
    try:
        with Path(path).open("rb") as handle:
            start = handle.read(40)
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror}); check its permissions, or get it again"
        ) from error
    if start.startswith(b"version https://git-lfs"):
        raise UserError(f"{path} is a pointer of Git LFS, not the file: run 'git lfs pull' in its folder")

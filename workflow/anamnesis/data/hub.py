"""Data sets from a hub: only the needed files, of one commit, through the cache of the hub library."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from anamnesis.core.artifacts import write_json
from anamnesis.core.errors import UserError, first_line
from anamnesis.core.hub_access import download, explain, is_offline
from anamnesis.data.files import RawRow, read_rows
from anamnesis.data.mapping import map_row

if TYPE_CHECKING:
    from anamnesis.data.catalogue.entry import Hub

COMMIT = re.compile(r"[0-9a-f]{40}")


def hub_rows(hub: Hub, pins: str | Path | None = None) -> tuple[list[RawRow], str]:
    """The rows of a repository with the columns of a benchmark file, and their commit.

    ``pins``: a JSON file with the commits of repositories that the catalogue does not pin. A repository that
    is not in it is read at its newest commit, which is added. Raises UserError as :func:`fetch` does, and for
    rows that do not fit the mapping.
    """
    revision = hub.revision or _pinned(pins, hub.repository)
    folder, commit = fetch(hub.repository, revision, sorted(set(hub.files.values())))
    rows: list[RawRow] = []
    for split, pattern in hub.files.items():
        for file in sorted(folder.glob(pattern)):
            named = Path(f"hf:{hub.repository}@{commit[:12]}", file.relative_to(folder))
            mapped = (map_row(replace(row, path=named), hub.columns, split) for row in read_rows(file))
            rows += [row for row in mapped if row is not None]
    if not rows:
        wanted = (
            f"{hub.columns.where[0]} in {', '.join(hub.columns.where[1])}" if hub.columns.where else "any"
        )
        raise UserError(f"hf:{hub.repository}@{commit[:12]}: no row is left ({wanted}); pin another commit")
    # after the rows fit the mapping: a commit that cannot be read is not worth a pin
    if hub.revision is None:
        _pin(pins, hub.repository, commit)
    # row numbers count within a file: example_id needs one count over all files
    return [replace(row, number=number) for number, row in enumerate(rows, start=1)], commit


def fetch(repository: str, revision: str | None, patterns: Sequence[str]) -> tuple[Path, str]:
    """The folder with the files that match ``patterns`` at a commit (None: the newest), and that commit.

    A known commit is looked for in the cache first. Raises UserError when the repository, the revision or a
    file does not exist, when the token does not open a gated repository, when a download is interrupted, and
    when a file is not cached and the hub may not be reached.
    """
    name = f"hf:{repository}@{revision or 'main'}"
    if revision or is_offline():
        try:
            folder = download("dataset", repository, revision, patterns, cached=True)
        except Exception:  # not in the cache, whatever the library calls that
            folder = None
        if folder and not _missing(folder, patterns):
            return folder, folder.name
    try:
        if is_offline():
            raise FileNotFoundError
        folder = download("dataset", repository, revision, patterns)
    except Exception as error:  # the hub library raises many kinds; the user needs the name and a way out
        remedy = "; or set data.sources to [folder, builtin]" if is_offline() else ""
        raise UserError(explain(name, error) + remedy) from error
    # the library downloads what matches, without an error when nothing does
    if missing := _missing(folder, patterns):
        raise UserError(
            f"{name}: no file matches {missing[0]}; the repository has another layout or no such set"
        )
    return folder, folder.name


def _missing(folder: Path, patterns: Sequence[str]) -> list[str]:
    """The patterns with no file in ``folder``, or with fewer than the names (``-of-00003``) say."""
    return [pattern for pattern in patterns if not _complete([*folder.glob(pattern)])]


def _complete(files: Sequence[Path]) -> bool:
    counts = [match for file in files if (match := re.search(r"-of-0*(\d+)\.", file.name))]
    return bool(files) and all(int(match[1]) <= len(files) for match in counts)


def _read_pins(path: str | Path | None) -> Mapping[str, str]:
    if path is None or not Path(path).exists():
        return {}
    try:
        pins = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({first_line(error)}); mend or remove it") from error
    if not isinstance(pins, dict) or not all(COMMIT.fullmatch(str(commit)) for commit in pins.values()):
        raise UserError(
            f"{path}: must map repositories to commits of 40 hexadecimal digits; mend or remove it"
        )
    return pins


def _pinned(path: str | Path | None, repository: str) -> str | None:
    return _read_pins(path).get(repository)


def _pin(path: str | Path | None, repository: str, commit: str) -> None:
    """Add the commit to the file. A job that did so at the same time must have found the same commit."""
    if path is None:
        return
    from filelock import FileLock

    Path(path).parent.mkdir(parents=True, exist_ok=True)
    # several tasks of one repository may be prepared at once
    with FileLock(f"{path}.lock"):
        pins = dict(_read_pins(path))
        if pins.setdefault(repository, commit) != commit:
            raise UserError(
                f"hf:{repository}: another job has pinned {pins[repository][:12]} in {path}; run again"
            )
        write_json(path, pins)

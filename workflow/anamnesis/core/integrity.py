"""Whether results are still what was written. Every job leaves a note of what it read and wrote. A run checks
the notes before it plans anything: it trusts neither modification times nor the mere presence of a file.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from anamnesis.core.artifacts import digest_file, read_json, write_json
from anamnesis.core.errors import UserError

SET_ASIDE = ".damaged"
ENDING = ".made.json"
TIMESTAMP = ".snakemake_timestamp"  # Snakemake writes it into a folder, whose own time says nothing
LONG_AGO = 10**9  # nanoseconds since 1970; Snakemake takes 0 for no time at all

# [bytes, SHA-256, time of change in ns], by the path below a result ("." where that is one file)
States = dict[str, list]


@dataclass(frozen=True)
class Note:
    """The files and folders that a job read and wrote, each with the states of its files; the job's name, and
    what it was warned about (``job_logs.warnings_in``).
    """

    file: Path
    read: Mapping[str, States]
    written: Mapping[str, States]
    job: str = ""
    warnings: Sequence[str] = ()

    @classmethod
    def load(cls, file: Path) -> Note:
        """Raises UserError for a damaged one."""
        content = read_json(file)
        try:
            parts = [{path: dict(states) for path, states in content[p].items()} for p in ("read", "written")]
            sizes = [size for part in parts for states in part.values() for size, _, _ in states.values()]
            job, warned = str(content.get("job", "")), [str(text) for text in content.get("warnings", ())]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UserError(f"{file} is no note of a job") from error
        if not all(isinstance(size, int) for size in sizes):
            raise UserError(f"{file} is no note of a job")
        return cls(file, *parts, job, warned)

    def save(self) -> None:
        content = {"read": self.read, "written": self.written, "job": self.job}
        write_json(self.file, content | {"warnings": list(self.warnings)})


def note_file(outputs: Sequence[str | Path]) -> Path:
    """The path of the note of the job with these outputs: a hidden file in the folder of the first."""
    first = Path(outputs[0])
    return first.with_name(f".{first.name}{ENDING}")


def states_read(inputs: Iterable[str | Path]) -> dict[str, States]:
    """The states of a job's inputs. The digest of a result is taken from the note of the job that wrote it: a
    model's weights are read for that once.
    """
    return {str(path): _states(Path(path), _noted(path)) for path in inputs}


def _noted(path: str | Path) -> States:
    """The states of a result in the note of its job, if that job has it as its first output."""
    file = note_file([path])
    with suppress(UserError):
        return Note.load(file).written.get(str(path), {}) if file.exists() else {}
    return {}


def write_note(
    read: Mapping[str, States], outputs: Sequence[str | Path], job: str = "", warnings: Sequence[str] = ()
) -> None:
    """Write the note of a job. ``read``: as :func:`states_read` returns it."""
    written = {str(path): _states(Path(path)) for path in outputs}
    Note(note_file(outputs), read, written, job, warnings).save()


def check_results(results: str | Path) -> list[str]:
    """Set changed results aside, and set modification times so that Snakemake's check agrees with the
    recorded digests: it makes again what was made from other inputs, and nothing else. Returns a message for
    every result that was wrong.

    A changed result is renamed, as only its user knows whether it was damaged or edited. Files with the noted
    size and time are not read.
    """
    results, notes, messages = Path(results), [], []
    for file in sorted(results.rglob(f".*{ENDING}")):
        try:
            note = Note.load(file)
        except UserError:
            messages += _set_aside_unknown(file)
            continue
        # moved, or forged: a note must not have files renamed that are not results
        if not all(_is_below(path, results) for path in note.written):
            continue
        present = {path: _states_of(path, states) for path, states in note.written.items()}
        faults = {
            path: _fault(note.written[path], states) for path, states in present.items() if states is not None
        }
        messages += [_set_aside(Path(path), fault) for path, fault in faults.items() if fault]
        # same contents, other times (a copy): note the times, so that the next run need not read the files
        if not any(faults.values()) and None not in present.values() and present != note.written:
            note = replace(note, written=present)
            note.save()
        notes.append(note)
    _settle_times(notes)
    return messages


def notes_below(results: str | Path) -> list[Note]:
    """The notes of all jobs that wrote into a folder of results. Raises UserError for a damaged one."""
    return [Note.load(file) for file in sorted(Path(results).rglob(f".*{ENDING}"))]


def fault_of(path: str, noted: States) -> str | None:
    """What is wrong with a result that a note names; None where it is as it was written. A file with the
    noted size and time is not read.
    """
    present = _states_of(path, noted)
    return "it is missing" if present is None else _fault(noted, present)


def check_dates(files: Iterable[str | Path]) -> None:
    """Raise UserError for an input file of the user that is dated in the future: a result made now would be
    older, which Snakemake takes for a failure.
    """
    for file in map(Path, files):
        if _time(file) > time.time_ns():
            dated = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(_time(file) / 1e9))
            raise UserError(
                f"{file} is dated {dated}, which is in the future: set the clock of this computer right, or "
                f"run: touch '{file}'"
            )


def _states(path: Path, noted: Mapping[str, Sequence] | None = None) -> States:
    files = [path]
    if path.is_dir():
        files = sorted(f for f in path.rglob("*") if f.is_file() and f.name != TIMESTAMP)
    names, noted = {str(file.relative_to(path)): file for file in files if file.exists()}, noted or {}
    return {name: _state(file, noted.get(name)) for name, file in names.items()}


def _states_of(path: str, noted: States) -> States | None:
    """The present states of the files of a result; None if it does not exist."""
    if not Path(path).exists():
        return None
    files = {name: Path(path) / name for name in noted}
    return {name: _state(file, noted[name]) for name, file in files.items() if file.is_file()}


def _state(file: Path, noted: Sequence | None = None) -> list:
    """The state of a file; where size and time are as noted, so is the digest."""
    stat = file.stat()
    if noted and (noted[0], noted[2]) == (stat.st_size, stat.st_mtime_ns):
        return list(noted)
    return [stat.st_size, digest_file(file), stat.st_mtime_ns]


def _is_below(path: str, folder: Path) -> bool:
    return Path(os.path.abspath(path)).is_relative_to(os.path.abspath(folder))


def _fault(noted: States, present: States) -> str | None:
    """What is wrong with a result."""
    for name, (size, digest, _) in noted.items():
        what = "it" if name == "." else name
        if name not in present:
            return f"{what} is missing"
        if present[name][0] != size:
            return f"{what} has {present[name][0]:,} bytes instead of {size:,}"
        if present[name][1] != digest:
            return f"{what} has another content"
    return None


def _set_aside(path: Path, fault: str) -> str:
    # only the last one is kept: what is set aside is a result that can be made again, or a copy of an edit
    aside = path.with_name(path.name + SET_ASIDE)
    if aside.is_dir():
        shutil.rmtree(aside)
    else:
        aside.unlink(missing_ok=True)
    os.replace(path, aside)
    return (
        f"{path} is not what was written ({fault}): it is now {aside.name}, and is made again where this run "
        "needs it, or by the same command with this path behind it"
    )


def _set_aside_unknown(file: Path) -> list[str]:
    """Without its note nothing is known of a result."""
    file.unlink()
    result = file.with_name(file.name[1 : -len(ENDING)])
    return [_set_aside(result, f"its note {file.name} is damaged")] if result.exists() else []


# ---------------------------------------------------------------- times


def _settle_times(notes: Sequence[Note]) -> None:
    """Set modification times so that Snakemake's check agrees with the recorded digests.

    No result is dated in the future: what is made from it now would be older. A result whose inputs have
    changed is dated long ago; one whose inputs have not is dated no earlier than they are.
    """
    now, seen, current = time.time_ns(), {}, []
    for note in notes:
        seen |= note.written
        for path in note.written:
            if _time(path) > now:
                _date(_clock(path), now)
    for note in notes:
        if all(_as_read(path, states, seen) for path, states in note.read.items()):
            current.append(note)
        else:
            for path in note.written:
                _date(_clock(path), LONG_AGO)
    _put_in_order(current)


def _as_read(path: str, states: States, seen: dict[str, States]) -> bool:
    """Whether an input has the content that was read. Snakemake handles missing ones."""
    if not Path(path).exists():
        return True
    if path not in seen:
        seen[path] = _states_of(path, states)
    return _contents(states) == _contents(seen[path])


def _contents(states: States) -> dict[str, list]:
    return {name: state[:2] for name, state in states.items()}


def _put_in_order(notes: Sequence[Note]) -> None:
    """Date no result before its inputs, nor before theirs."""
    # notes are in no order of dependence: repeat until nothing moves, as often as the longest chain has steps
    times = {path: _time(path) for note in notes for path in (*note.read, *note.written)}
    late = True
    while late:
        late = False
        for note in notes:
            newest = max((times[path] for path in note.read), default=0)
            for path in note.written:
                if 0 < times[path] < newest:
                    _date(_clock(path), newest)
                    times[path], late = newest, True


def _clock(path: str | Path) -> Path:
    """The file whose time counts for Snakemake as the time of a result."""
    path = Path(path)
    return path / TIMESTAMP if (path / TIMESTAMP).exists() else path


def _time(path: str | Path) -> int:
    """In nanoseconds; 0 for a missing file."""
    try:
        return _clock(path).stat().st_mtime_ns
    except OSError:
        return 0


def _date(file: Path, nanoseconds: int) -> None:
    with suppress(FileNotFoundError, PermissionError):  # others' files keep their times
        os.utime(file, ns=(nanoseconds, nanoseconds))

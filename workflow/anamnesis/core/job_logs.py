"""The log of a job: everything that our code and the libraries say, and how it is read again."""

from __future__ import annotations

import logging
import re
import warnings
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from anamnesis.core.errors import one_line

FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
ERROR = re.compile(r"^\S+ \S+ ERROR \S+: (.*)$", flags=re.MULTILINE)
_COLOUR = re.compile(r"\x1b\[[\d;]*m")
WARNING = re.compile(r"^\S+ \S+ WARNING (\S+): (.*)$", flags=re.MULTILINE)

LIBRARIES = ("transformers", "huggingface_hub", "datasets", "torch")
"""Libraries with loggers that would print by themselves and hand nothing on."""

_OF_LIBRARY = re.compile(rf"(?:{'|'.join(LIBRARIES)})\.")

PYTHON = "py.warnings"  # the logger of Python's warnings

FOR_DEVELOPERS = ("DeprecationWarning", "PendingDeprecationWarning", "FutureWarning", "ResourceWarning")
"""Kinds of Python's warnings that announce what other versions will do, or concern no result."""

HARMLESS = (
    "mtime may not be reliable",  # of checkpoints, which go by the number in their name here
    "fan_in_fan_out is set to False but the target module is `Conv1D`",  # PEFT sets it right itself
)
"""Beginnings of warnings that concern no result, with the reason."""

MOST = 50  # distinct warnings of a job that are told outside of its log


def log_to(file: Path | None, anew: bool = False, speaks: bool = True) -> None:
    """Everything to the job's log file, warnings of all libraries and of Python included; our own warnings,
    and all errors, to the terminal too.

    ``anew``: begin the file; ``speaks``: False for the further processes of a job, which log only what the
    libraries warn about: our own messages are the same in all.
    """
    root = logging.getLogger()
    root.handlers.clear()
    root.setLevel(logging.INFO)
    logging.getLogger("anamnesis").setLevel(logging.DEBUG)
    for name in {*LIBRARIES, *filter(_OF_LIBRARY.match, root.manager.loggerDict)}:
        logger = logging.getLogger(name)
        logger.__class__ = _HandsOn
        logger.handlers.clear()
    logging.setLoggerClass(_HandsOn)  # for those that are made later: torch has many, each with a handler
    if speaks:
        console = logging.StreamHandler()
        console.setLevel(logging.WARNING)
        console.addFilter(lambda record: _is_ours(record) or record.levelno > logging.WARNING)
        console.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
        root.addHandler(console)
    if file:
        with suppress(OSError):  # a full disk: writing the results reports it
            file.parent.mkdir(parents=True, exist_ok=True)
            if anew:
                file.open("w").close()
            handler = logging.FileHandler(file, encoding="utf-8")
            if not speaks:
                handler.addFilter(lambda record: not _is_ours(record) and record.levelno >= logging.WARNING)
            handler.setFormatter(_Lines(FORMAT))
            root.addHandler(handler)
    logging.disable(logging.NOTSET)
    # a log that cannot be written (full disk) must not bury the one line in tracebacks
    logging.raiseExceptions = False
    # whatever PYTHONWARNINGS says: an error in its place would end the job
    warnings.resetwarnings()
    warnings.simplefilter("default")
    warnings.showwarning = _log_warning


def _is_ours(record: logging.LogRecord) -> bool:
    return record.name.startswith("anamnesis")


class _HandsOn(logging.Logger):
    """A library's logger without handlers of its own, whose messages reach the job's."""

    propagate = property(lambda self: True, lambda self, value: None)

    def addHandler(self, hdlr: logging.Handler) -> None:
        pass


class _Lines(logging.Formatter):
    """A warning is one line, by which it is found again; other messages are as they are (tracebacks)."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        if record.levelno == logging.WARNING:
            record.message = one_line(_COLOUR.sub("", record.message))
        return super().formatMessage(record)


def _log_warning(message, category, filename, lineno, file=None, line=None) -> None:
    """In place of ``warnings.showwarning``: under the name of the package that warns."""
    package = Path(filename).parts[-1]
    if "site-packages" in Path(filename).parts:
        package = Path(filename).parts[Path(filename).parts.index("site-packages") + 1]
    logger = logging.getLogger(f"{PYTHON}.{package.removesuffix('.py')}")
    logger.warning("%s: %s (%s:%s)", category.__name__, message, filename, lineno)


def warnings_in(file: Path | None) -> list[str]:
    """The distinct warnings of a job's log that may concern its result, in the order in which they came, each
    with the name of the library that warns.
    """
    if file is None or not file.exists():
        return []
    found = WARNING.findall(file.read_text(encoding="utf-8", errors="replace"))
    told = [_told(logger, text) for logger, text in found]
    return list(dict.fromkeys(filter(None, told)))[:MOST]


def _told(logger: str, text: str) -> str | None:
    """A warning as its user reads it; None for one that concerns no result."""
    if logger.startswith(f"{PYTHON}."):
        kind, text = text.rsplit(" (", 1)[0].split(": ", 1)
        if kind in FOR_DEVELOPERS:
            return None
    if text.startswith(HARMLESS):
        return None
    package = logger.removeprefix(f"{PYTHON}.").split(".")[0]
    return text if package == "anamnesis" else f"{package}: {text}"


def last_error(text: str) -> str | None:
    """The message of the last error in a log; None when it has none."""
    found = ERROR.findall(text)
    return found[-1] if found else None


def first_time(text: str) -> float | None:
    """When the first line of a log was written, in seconds since 1970; None when it has no whole line."""
    try:
        return datetime.strptime(text[:23], "%Y-%m-%d %H:%M:%S,%f").timestamp()
    except ValueError:
        return None

"""What all jobs of the workflow share: arguments, threads, logging, one-line errors, and the record that
describes the result.
"""

from __future__ import annotations

import atexit
import gc
import inspect
import logging
import os
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, get_args, get_origin

import psutil

from anamnesis.core.artifacts import write_json
from anamnesis.core.devices import claimed
from anamnesis.core.environment import check_python, ignore_environment, set_up_libraries
from anamnesis.core.errors import UserError, one_line
from anamnesis.core.forked_jobs import run_in_fork
from anamnesis.core.integrity import States, note_file, states_read, write_note
from anamnesis.core.job_logs import log_to, warnings_in
from anamnesis.core.processes import run_together
from anamnesis.core.provenance import provenance, write_costs
from anamnesis.core.recovery import end_with_scheduler, remove_leftovers
from anamnesis.core.stopwatch import stopwatch

RECORD = "record"  # the output that holds the provenance record
CODE = "code"  # the param that holds the digest of the code: for reruns, and for scripts that ask for it
BEGUN = "ANAMNESIS_BEGUN"  # environment variable: when the process that Snakemake started began, for its fork
TRACKERS = "trackers"  # the argument, and the section of the configuration, of metrics for trackers
HOW_TO_RUN = (
    "batch_tokens",
    "checkpoint_steps",
)  # resources given to the script: they change its memory, not its result


def run_job(snakemake, main: Callable[..., dict | None]) -> None:
    """Call ``main(**inputs, **params, **outputs)`` for a rule; what it returns goes into the record.

    The resources of ``HOW_TO_RUN`` that a rule has are arguments too. A parameter annotated ``Sequence[...]``
    gets a list, also of a single file. With a resource ``processes`` above 1 ``main`` is called in so many
    processes at once, which share the job's threads. Any error ends the job with status 1 after one line on
    the terminal; its traceback is in the job's log. A job of one process without a GPU runs in a fork of a
    process that has imported the libraries, where there is one. So ``main`` imports what it needs: the
    process that only waits for the fork shall not.
    """
    started = float(os.environ.pop(BEGUN, 0)) or psutil.Process().create_time()
    processes = int(_named(snakemake.resources).get("processes") or 1)
    gpus = _named(snakemake.resources).get("gpu")  # None: a job without a model
    if not gpus and processes == 1:
        os.environ[BEGUN] = str(started)
        run_in_fork(needs_model=gpus is not None, snapshot=_snapshot(snakemake))
        del os.environ[BEGUN]
    atexit.register(gc.freeze)  # Python would look through all of torch for garbage as it ends
    end_with_scheduler()
    log_file = Path(snakemake.log[0]) if snakemake.log else None
    log_to(log_file, anew=True)
    set_up_libraries(max(1, snakemake.threads // processes))
    try:
        check_python()
        _run(snakemake, main, started, processes, log_file)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        logger = logging.getLogger("anamnesis")
        if isinstance(error, UserError):
            logger.error("%s", error)
        else:
            logger.error(
                "unexpected %s: %s (traceback in %s)", type(error).__name__, one_line(error)[:300], log_file
            )
        logger.debug("%s", traceback.format_exc())
        sys.exit(1)


def _run(
    snakemake, main: Callable[..., dict | None], started: float, processes: int, log_file: Path | None
) -> None:
    inputs, outputs = _named(snakemake.input), _named(snakemake.output)
    written = _paths(outputs)
    remove_leftovers([*written, note_file(written)])
    # should this job be killed, its half-made result must not be compared with an earlier note
    note_file(written).unlink(missing_ok=True)
    record = outputs.pop(RECORD, None)
    params = {name: value for name, value in _named(snakemake.params).items() if name != CODE}
    params |= {name: value for name, value in _named(snakemake.resources).items() if name in HOW_TO_RUN}
    asked = inspect.signature(main).parameters
    more = {CODE: snakemake.params.get(CODE)} if CODE in asked else {}
    if TRACKERS in asked:
        more |= {TRACKERS: _trackers(snakemake, log_file)}
    arguments = _with_lists(main, {**inputs, **params, **more, **outputs})
    with claimed(int(_named(snakemake.resources).get("gpu") or 0)), stopwatch() as spent:
        facts = _call(main, arguments, processes, log_file) or {}
    logging.getLogger(__name__).info("%s", spent)
    read = states_read(_paths(inputs))
    if record:
        about = {"rule": snakemake.rule, "params": params, "code": snakemake.params.get(CODE)}
        write_json(record, provenance(started, **about, inputs=_digests(read), **facts))
    write_note(read, written, _job_name(snakemake.rule, log_file), warnings_in(log_file))
    if folder := _folder_of_results(log_file):
        write_costs(folder / "benchmarks" / f"{_job_name(snakemake.rule, log_file)}.tsv", started)


def _snapshot(snakemake) -> dict | None:
    """Arguments of ``models.loading.load_ahead`` for a rule with a model."""
    snapshot, how = snakemake.input.get("snapshot"), snakemake.params.get("model")
    if not isinstance(snapshot, str) or not isinstance(how, dict):
        return None
    return {"snapshot": str(snapshot)} | {name: how[name] for name in ("dtype", "device") if name in how}


def _trackers(snakemake, log_file: Path | None) -> dict | None:
    """The section of the configuration that no result depends on, and the folder of results. It is no param
    of a rule: those make results stale.
    """
    section = getattr(snakemake, "config", {}).get(TRACKERS)
    folder = _folder_of_results(log_file)
    if not section or folder is None:
        return None
    from anamnesis.core.tracker_settings import Trackers

    return {**Trackers.model_validate(section).model_dump(), "results": str(folder)}


def _folder_of_results(log_file: Path | None) -> Path | None:
    """What holds the folder of logs; None for a job without one."""
    return next((path.parent for path in (log_file or Path()).parents if path.name == "logs"), None)


def _with_lists(main: Callable, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments, with a list in place of a text where ``main`` takes a sequence: Snakemake gives a list
    of one file as a text.
    """
    parameters = inspect.signature(main, eval_str=True).parameters
    listed = {name for name, parameter in parameters.items() if _is_sequence(parameter.annotation)}
    return {
        name: [value] if name in listed and isinstance(value, str) else value
        for name, value in arguments.items()
    }


def _is_sequence(annotation: Any) -> bool:
    """Whether an annotation is ``Sequence[...]``, or a union with it."""
    return any(get_origin(part) is Sequence for part in (annotation, *get_args(annotation)))


def _call(main: Callable[..., dict | None], arguments: dict, processes: int, log_file: Path | None):
    if processes == 1:
        return main(**arguments)
    return run_together(processes, main, arguments, partial(_begin, log_file))


def _begin(log_file: Path | None, number: int) -> None:
    """Only the first of several processes of a job speaks for all; the others log their warnings."""
    log_to(log_file, speaks=number == 0)
    ignore_environment()


def _job_name(rule: str, log_file: Path | None) -> str:
    """The path of the job's log below the folder of logs, without its ending; without a log the rule."""
    if log_file is None:
        return rule
    parts = log_file.with_suffix("").parts
    return "/".join(parts[len(parts) - parts[::-1].index("logs") :]) if "logs" in parts else parts[-1]


def _named(values) -> dict:
    """Named inputs, params or outputs as plain Python: one path as str, several as a list."""
    return {
        name: value
        if isinstance(value, str | int | float | bool | dict | tuple | None)
        else list(value)
        if hasattr(value, "__iter__")
        else value
        for name, value in values.items()
    }


def _paths(named: dict) -> list[str]:
    return [path for value in named.values() for path in ([value] if isinstance(value, str) else value)]


def _digests(read: Mapping[str, States]) -> dict[str, str]:
    """The digests of files, and of the weights in folders, by path."""
    return {
        str(Path(path, name)): digest
        for path, states in read.items()
        for name, (_, digest, _) in states.items()
        if name == "." or name.endswith(".safetensors")
    }

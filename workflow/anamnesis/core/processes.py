"""One job in several processes of one computer: they start together and end together."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from anamnesis.core.errors import UserError
from anamnesis.core.repository import IS_CHECKOUT

RENDEZVOUS = "ANAMNESIS_RENDEZVOUS"  # environment variable: the file by which the processes find each other
SECONDS_FOR_A_CAUSE = 1.0  # the failure of a process that lost another one may arrive before that one's end


def share_library() -> None:
    """Let the Python processes started from now on import this library."""
    if not IS_CHECKOUT:  # an installed one is found anyway
        return
    folder, before = str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")
    others = [path for path in before.split(os.pathsep) if path not in ("", folder)]
    os.environ["PYTHONPATH"] = os.pathsep.join([folder, *others])


class Elsewhere(Exception):
    """The traceback of another process, for the log."""


def run_together(
    count: int,
    function: Callable,
    arguments: Mapping,
    begin: Callable[[int], None] | None = None,
) -> object:
    """``function(**arguments)`` in ``count`` new processes; returns what the first of them returned.

    Each calls ``begin`` with its number first. Then it has the number in its environment as torch's launchers
    give it (``RANK`` and ``LOCAL_RANK``, from 0, of ``WORLD_SIZE``). All arguments must be picklable. SIGTERM
    is passed on. When one fails, the others are killed and its exception is raised here, a UserError when it
    was killed itself. When this process ends, even by a signal, they end too.
    """
    # not fork: CUDA cannot be used after it, and locks of other threads would stay locked
    context = multiprocessing.get_context("spawn")
    workers: list[BaseProcess] = []
    answers: dict[Connection, int] = {}
    # a file for the rendezvous: a port could be taken, or be reachable from elsewhere
    with tempfile.TemporaryDirectory() as folder, _passed_on(signal.SIGTERM, workers) as pass_on:
        try:
            for number in range(count):
                answer, sender = context.Pipe(duplex=False)
                job = (number, count, Path(folder) / "rendezvous", function, dict(arguments), begin, sender)
                worker = context.Process(target=_work, args=job)
                worker.start()
                sender.close()  # of this process, so that the end of the other one is seen
                workers.append(worker)
                answers[answer] = number
            pass_on()
            return _collect(workers, answers)
        finally:
            for worker in workers:
                worker.kill()
                worker.join()


def _collect(workers: Sequence[BaseProcess], answers: dict[Connection, int]) -> object:
    """What the first process returned; raises the cause when one fails."""
    result = None
    while answers:
        for answer in wait(list(answers)):
            number = answers.pop(answer)
            returned, error, trace = _read(answer)
            if error is not None and not isinstance(error, UserError):
                killed = _killed(answers)
                number, error = (number, error) if killed is None else (killed, None)
            if error is not None:
                raise error from Elsewhere(trace)
            if returned is None:
                raise _ended(workers, number)
            result = returned[0] if number == 0 else result
    return result


def _read(answer: Connection) -> tuple:
    """(returned value in a tuple or None, exception or None, its traceback); nothing of a killed process."""
    try:
        return answer.recv()
    except EOFError:
        return None, None, ""


def _killed(answers: Mapping[Connection, int]) -> int | None:
    """A process that ended without an answer: the cause, when others fail at the same time."""
    ready = wait(list(answers), SECONDS_FOR_A_CAUSE)
    return next((answers[answer] for answer in ready if _read(answer)[:2] == (None, None)), None)


def _ended(workers: Sequence[BaseProcess], number: int) -> UserError:
    workers[number].join()
    code = workers[number].exitcode
    how = signal.Signals(-code).name if code < 0 else f"exit status {code}"
    return UserError(
        f"process {number + 1} of {len(workers)} (training.processes) was ended by {how}: run the same "
        "command again; if memory ran out, with fewer processes or a smaller training.batch_size"
    )


@contextmanager
def _passed_on(number: int, workers: Sequence[BaseProcess]) -> Iterator[Callable[[], None]]:
    """A signal to this process goes to the workers instead. Call the yielded function when all of them have
    started.
    """
    received: list[int] = []

    def pass_on() -> None:
        for worker in workers if received else ():
            if worker.is_alive():
                os.kill(worker.pid, number)

    def handle(*_) -> None:
        received.append(number)
        pass_on()

    if threading.current_thread() is not threading.main_thread():  # which alone gets signals
        yield pass_on
        return
    before = signal.signal(number, handle)
    try:
        yield pass_on
    finally:
        signal.signal(number, before)


def _work(
    number: int, count: int, rendezvous: Path, function: Callable, arguments: dict, begin, sender: Connection
) -> None:
    """One of the processes, from its start to its end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all, and who started them ends them
    _end_with_parent()
    try:
        if begin is not None:
            begin(number)
        os.environ |= {"RANK": str(number), "LOCAL_RANK": str(number), RENDEZVOUS: str(rendezvous)}
        os.environ |= {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count)}
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # whatever the computer's name resolves to
        sender.send(((function(**arguments),), None, ""))
    except Exception as error:
        sender.send((None, _portable(error), traceback.format_exc()))
        sender.close()
        os._exit(1)  # without waiting for the others, who may wait for this one
    distributed = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_initialized():
        distributed.destroy_process_group()


def _portable(error: Exception) -> Exception:
    """Other kinds may not survive the way to another process."""
    if isinstance(error, UserError) or type(error).__module__ == "builtins":
        return error
    return RuntimeError(f"{type(error).__name__}: {error}")


def _end_with_parent() -> None:
    def watch() -> None:
        wait([multiprocessing.parent_process().sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()

"""Tasks of lm-evaluation-harness by their names, without running code that came with a folder of tasks or
from a hub.

Tasks of the installed package are code, as the package is. A folder of the user's is data: its functions are
refused (``task_files``), templates run in jinja's sandbox, and no metric is fetched.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from jinja2 import TemplateError
from jinja2.sandbox import SandboxedEnvironment

from anamnesis.core.errors import UserError, first_line
from anamnesis.core.hub_access import is_offline
from anamnesis.evaluation.harness.model import greedy_settings
from anamnesis.evaluation.harness.task_files import find_tasks

SEED = 1234
"""The harness's own, so that its command line draws the same demonstrations."""


def load_tasks(names: Sequence[str], folder: Path | None, shots: int | None) -> dict:
    """The tasks, groups and tags with these names as the harness's ``evaluate`` takes them, with ``shots``
    demonstrations where they do not fix that themselves. ``folder``: of further task files, which come first.

    Raises UserError for an unknown name, files that name code, data that cannot be read, and for tasks that
    need more than text. Call it, and ``evaluate``, within :func:`no_foreign_code`.
    """
    manager = find_tasks(names, folder)
    try:
        loaded = manager.load(list(names))
    except (UserError, TemplateError):
        raise
    except Exception as error:  # of the harness, of datasets and of the hub library
        offline = "; HF_HUB_OFFLINE is set, unset it" if is_offline() else ""
        raise UserError(
            f"evaluation.harness = {', '.join(names)}: a task cannot be loaded ({type(error).__name__}: "
            f"{first_line(error)}){offline}"
        ) from error
    for name, task in loaded["tasks"].items():
        _check(name, task)
        own = task.get_config("num_fewshot")
        if own is None or (shots is not None and own != 0):  # as its command line does
            task.set_config(key="num_fewshot", value=shots or 0)
        task.set_fewshot_seed(seed=SEED)
    return loaded


def _check(name: str, task) -> None:
    if getattr(task, "MULTIMODAL", False):
        raise UserError(f"evaluation.harness: task '{name}' needs images or sound: models here read text")
    if getattr(task, "UNSAFE_CODE", False):
        raise UserError(f"evaluation.harness: task '{name}' runs code that a model writes: take another task")
    if task.OUTPUT_TYPE == "generate_until":
        greedy_settings(task.get_config("generation_kwargs") or {})


@contextmanager
def no_foreign_code() -> Iterator[None]:
    """Templates run in jinja's sandbox, no metric's code is fetched from a hub, and data may be, as a task's
    name stands in the configuration, unless the user is offline.
    """
    import datasets
    import evaluate
    import lm_eval.api.task
    import lm_eval.utils
    from huggingface_hub import constants
    from tqdm import tqdm

    plain = lm_eval.utils.env
    sandbox = SandboxedEnvironment(undefined=plain.undefined, keep_trailing_newline=True)
    sandbox.filters.update(plain.filters)
    log = logging.getLogger("lm_eval")
    level = log.level
    with ExitStack() as stack:
        for place, name, value in (
            (lm_eval.utils, "env", sandbox),
            (evaluate, "load", _refuse_metric),
            (constants, "HF_HUB_OFFLINE", is_offline()),
            (datasets.config, "HF_HUB_OFFLINE", is_offline()),
            (lm_eval.api.task, "tqdm", partial(tqdm, disable=True)),  # no bars in the log of a job
        ):
            stack.callback(setattr, place, name, getattr(place, name))
            setattr(place, name, value)
        if not datasets.are_progress_bars_disabled():
            datasets.disable_progress_bars()
            stack.callback(datasets.enable_progress_bars)
        stack.callback(log.setLevel, level)
        log.setLevel(logging.ERROR)  # it has much to say of each task, and warns of what is meant
        try:
            yield
        except TemplateError as error:
            raise UserError(
                f"evaluation.harness: a template of a task fails ({first_line(error)}); correct it, or take "
                "another task"
            ) from error
        except _MetricRefused as refused:
            raise UserError(
                f"evaluation.harness: a task's metric '{refused}' is code of a hub, which is not run here; "
                "take another task, or another metric"
            ) from None


class _MetricRefused(BaseException):
    """The harness would take an Exception for a metric that does not exist."""


def _refuse_metric(path: str, *args: Any, **kwargs: Any) -> None:
    raise _MetricRefused(path)

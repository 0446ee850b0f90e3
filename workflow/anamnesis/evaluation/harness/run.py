"""Tasks of lm-evaluation-harness asked of one checkpoint: records as of our own sets, and all metrics."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from anamnesis.engine.prefix_engine import PrefixEngine
from anamnesis.evaluation.harness.loading import SEED, load_tasks, no_foreign_code
from anamnesis.evaluation.harness.model import EngineLM
from anamnesis.evaluation.harness.rows import METRIC_COLUMNS, metric_rows, record_rows
from anamnesis.evaluation.records import COLUMNS


def evaluate_tasks(
    engine: PrefixEngine,
    tokenizer,
    names: Sequence[str],
    folder: Path | None = None,
    shots: int | None = None,
    limit: int | None = None,
    batch_tokens: int = 2048,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(records, metrics) of the harness's tasks ``names``, asked and scored by the harness itself.

    ``records``: a row per document, of the tasks that have a score for each (columns: ``records.COLUMNS``;
    :func:`record_rows`). ``metrics``: every metric of every task and group, with the harness's values
    (columns: ``METRIC_COLUMNS``). ``folder``, ``shots``: see :func:`load_tasks`; ``limit``: the first so
    many documents of each task.
    """
    from lm_eval.evaluator import evaluate

    with _seeded(), no_foreign_code():
        loaded = load_tasks(names, folder, shots)
        model = EngineLM(engine, tokenizer, batch_tokens)
        found = evaluate(model, loaded, limit=limit, bootstrap_iters=0)
        # in here, as templates are used again, and a task draws when asked for its name
        rows = [
            row for name, task in loaded["tasks"].items() for row in record_rows(task, found["samples"][name])
        ]
    metrics = pd.DataFrame(metric_rows(found), columns=METRIC_COLUMNS)
    # the same types with groups, which have no number of documents, and without
    return pd.DataFrame(rows, columns=COLUMNS), metrics.astype({"shots": "Int64", "n": "Int64"})


@contextmanager
def _seeded() -> Iterator[None]:
    """Global generators, which tasks may draw from, as its command line seeds them; afterwards as before."""
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()
    random.seed(0)
    np.random.seed(SEED)
    torch.manual_seed(SEED)
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.set_rng_state(before[2])

"""Shared set-up of the tests: no hub, no display, GPU tests only where there is a GPU, and one whole run of
the workflow, made once and only read by the tests.
"""

from __future__ import annotations

import os

import hypothesis
import pytest

# a busy machine fails no test
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")

# Set before any test imports the libraries that read them.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # tiny models gain nothing from more; tests run side by side


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests marked ``gpu`` where there is no CUDA device; torch is imported only if there are any."""
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked:
        return
    import torch

    if not torch.cuda.is_available():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture(scope="session")
def snapshot(tmp_path_factory):
    """A tiny random model as a user would have it: a folder outside of the experiment."""
    import tiny_models

    return tiny_models.save_snapshot(tmp_path_factory.mktemp("model") / "tiny-llama")


@pytest.fixture
def fresh(tmp_path, snapshot):
    """An experiment in an empty folder."""
    from runs import CONFIG, Experiment, merged

    return Experiment(tmp_path, merged(CONFIG, {"model": {"source": f"path:{snapshot}"}}))


@pytest.fixture(scope="session")
def whole(tmp_path_factory, snapshot):
    """The experiment after one run without interruption, started from elsewhere. Nobody may change it."""
    from runs import CONFIG, Experiment, copy_repository, merged

    folder = tmp_path_factory.mktemp("whole")
    config = merged(CONFIG, {"model": {"source": f"path:{snapshot}"}})
    experiment = Experiment(folder, config, copy_repository(tmp_path_factory.mktemp("repository")))
    done = experiment.run(cwd=tmp_path_factory.mktemp("elsewhere"))
    assert done.returncode == 0, done.stdout
    (folder / "first_run.txt").write_text(done.stdout)
    return experiment

"""One uninterrupted run of the whole workflow, made once and only read by the tests."""

from __future__ import annotations

import pytest
from runs import CONFIG, Experiment, copy_repository, merged

import tiny_models


@pytest.fixture(scope="session")
def snapshot(tmp_path_factory):
    """A tiny random model as a user would have it: a folder outside of the experiment."""
    return tiny_models.save_snapshot(tmp_path_factory.mktemp("model") / "tiny-llama")


@pytest.fixture
def fresh(tmp_path, snapshot):
    """An experiment in an empty folder."""
    return Experiment(tmp_path, merged(CONFIG, {"model": {"source": f"path:{snapshot}"}}))


@pytest.fixture(scope="session")
def whole(tmp_path_factory, snapshot):
    """The experiment after one run without interruption, started from elsewhere. Nobody may change it."""
    folder = tmp_path_factory.mktemp("whole")
    config = merged(CONFIG, {"model": {"source": f"path:{snapshot}"}})
    experiment = Experiment(folder, config, copy_repository(tmp_path_factory.mktemp("repository")))
    done = experiment.run(cwd=tmp_path_factory.mktemp("elsewhere"))
    assert done.returncode == 0, done.stdout
    (folder / "first_run.txt").write_text(done.stdout)
    return experiment

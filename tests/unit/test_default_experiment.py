"""The page on the default experiment says what the configuration does."""

import re

from anamnesis.config import load_config
from runs import ROOT

PAGE = (ROOT / "docs/explanation/default-experiment.md").read_text(encoding="utf-8")


def test_the_page_has_the_tasks_in_their_order_the_sets_and_the_learning_rate_of_the_configuration():
    config = load_config(ROOT / "config.yaml")
    names = {
        row.split("|")[1].strip(): re.findall(r"`(\w+)`", row) for row in PAGE.splitlines() if "|" in row
    }
    assert tuple(names["tasks, in this order"])[:4] == config.suite.orders[0]
    assert tuple(names["held-out sets"]) == config.suite.held_out
    (rate,) = re.findall(r"\| \*\*(\S+)\*\* \|", PAGE)
    assert float(rate) == config.training.learning_rate
    assert config.tuning.enabled
    assert config.tuning.tasks is None
    assert set(config.interventions.sets) <= set(config.suite.held_out)

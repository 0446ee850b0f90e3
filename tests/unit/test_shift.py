"""The shift on the new task: against plain forward passes, and what its table, figure and sentences say."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

import reference
from anamnesis.analyses.shift.figure import shift
from anamnesis.analyses.shift.measure import log_probabilities, shift_frame
from anamnesis.analyses.shift.section import predicts, sections
from anamnesis.analyses.shift.tables import shift_correlations, tabulate
from anamnesis.core.errors import UserError
from anamnesis.engine.prefix_engine import PrefixEngine
from anamnesis.engine.scoring import Question
from anamnesis.report.results import AnalysisResults
from tiny_models import build, token_ids

BEGINNING = token_ids(1, 14)[0]  # run once for all prompts
QUESTIONS = [
    Question([*BEGINNING, *prompt], [answer])
    for prompt, answer in zip(token_ids(2, 9, 4, 12), token_ids(3, 1, 3, 2), strict=True)
]
CHANCE = (200, 0.95)


@torch.no_grad()
def divergences(first, second, question: Question) -> np.ndarray:
    """KL at every position that predicts a token of the answer, from one whole pass of each model."""
    ids, answer = [*question.context, *question.continuations[0]], len(question.continuations[0])
    before, after = (
        reference.logits(m, ids)[-answer - 1 : -1].double().log_softmax(-1) for m in (first, second)
    )
    return torch.nn.functional.kl_div(after, before, reduction="none", log_target=True).sum(-1).numpy()


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_divergence_is_that_of_two_plain_passes(name):
    first, second = build(name, 0), build(name, 1)
    before, after = (log_probabilities(PrefixEngine(m), QUESTIONS, 40) for m in (first, second))  # 3 batches
    frame = shift_frame(before, after)
    expected = [divergences(first, second, question) for question in QUESTIONS]
    assert frame["prompt"].to_numpy() == pytest.approx([e[0] for e in expected], abs=1e-5)
    assert frame["answer"].to_numpy() == pytest.approx([e.mean() for e in expected], abs=1e-5)
    assert list(frame["tokens"]) == [1, 3, 2]
    assert (frame[["prompt", "answer"]] > 0).all().all()
    assert shift_frame(before, before)[["prompt", "answer"]].abs().max().max() == 0


def table(methods=("inclora", "inclora-ivg"), stages=(1, 2, 3)) -> pd.DataFrame:
    """Held-out accuracy falls by a tenth in every stage, the shift grows by one."""
    places = [
        {"method": method, "order": 1, "seed": 0, "stage": stage} for method in methods for stage in stages
    ]
    part = pd.DataFrame({"set": "new", "example": [0, 1], "prompt": [1.0, 3.0], "answer": 0.5, "tokens": 2})
    parts = [part.assign(prompt=part["prompt"] + place["stage"]) for place in places]
    rows = [
        (method, 1, 0, stage, name, role, form, shots, 0.8 - 0.1 * stage)
        for method in methods
        for stage in (0, *stages)
        for name, role, form, shots in (
            ("held", "held_out", "instruction", 0), ("other", "held_out", "instruction", 0),
            ("held", "held_out", "instruction", 5), ("held", "held_out", "knowledge", 0),
            ("new", "train_task", "instruction", 0),
        )
    ]  # fmt: skip
    columns = ["method", "order", "seed", "stage", "set", "role", "form", "shots", "value"]
    return tabulate(parts, pd.DataFrame(rows, columns=columns), places)["table"]


def test_table_has_what_was_lost_since_before_training():
    found = table().set_index(["method", "stage"])
    assert found.loc[("inclora", 2), ["prompt", "answer", "examples"]].tolist() == [4.0, 0.5, 2]
    assert found["forgotten"].to_numpy() == pytest.approx([0.1, 0.2, 0.3] * 2)


def test_stages_without_scores_of_held_out_sets_count_in_no_correlation():
    frame = table().assign(forgotten=lambda f: f["forgotten"].where(f["stage"] > 1))
    assert list(shift_correlations(frame, *CHANCE)["n"]) == [4, 4]


def test_correlation_is_spearmans_with_an_interval():
    rng = np.random.default_rng(0)
    frame = table(methods=("a", "b", "c", "d")).assign(
        prompt=lambda f: f["forgotten"] + rng.normal(0, 0.1, len(f))
    )
    found = shift_correlations(frame, *CHANCE).set_index("kind")
    expected = stats.spearmanr(frame["prompt"], frame["forgotten"]).statistic
    assert found.loc["prompt", "spearman"] == pytest.approx(expected)
    assert found.loc["prompt", "low"] < expected < found.loc["prompt", "high"]
    assert np.isnan(found.loc["answer", "spearman"])  # it does not vary


def test_section_shows_the_table_and_the_answer(tmp_path):
    config = {"statistics": dict(zip(("bootstrap_resamples", "confidence"), CHANCE, strict=True))}
    results = AnalysisResults({"shift": table()}, {"shift": tmp_path / "shift.png"}, config=config)
    ((picture,),) = (section.pictures for section in sections(results))
    methods, correlations = picture.tables
    assert methods.rows[0] == ["inclora", "5", "0.5", "−30.0\u00a0points", 1]
    assert len(methods.rows) == 2
    assert correlations.rows[1] == ["over the answer's tokens", "–", 6]  # it does not vary
    assert picture.sentences == [
        "The data are too few to say that the shift on the new task predicts forgetting."
    ]
    both = table().assign(answer=lambda f: f["prompt"])
    assert predicts(shift_correlations(both, *CHANCE))
    assert predicts(shift_correlations(both.assign(forgotten=lambda f: -f["forgotten"]), *CHANCE)) is False


def test_figure_has_a_point_for_every_chain_and_stage():
    figure = shift(table(), *CHANCE)
    left, right = figure.axes
    assert len(left.lines) == len(right.lines) == 6 + 1  # and the line at zero
    assert "ρ = +1.00" in left.get_title(loc="left")
    assert "not defined" in right.get_title(loc="left")
    with pytest.raises(UserError, match="is empty"):
        shift(table().iloc[:0], *CHANCE)

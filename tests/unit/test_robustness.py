"""Vectors from few prompts: what they are made from, how they are compared, and what is said of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

import reference
from anamnesis.analyses.outputs import scored_outputs
from anamnesis.analyses.robustness import figure as drawn
from anamnesis.analyses.robustness.measure import Plan, averaged, draws_of, vectors_of_draws
from anamnesis.analyses.robustness.section import numbers, verdict
from anamnesis.analyses.robustness.tables import COLUMNS, HEADS, OPTIMISED, robustness_table
from anamnesis.core.errors import UserError
from anamnesis.data.prompts import Template
from anamnesis.engine.heads import find_heads
from anamnesis.engine.prefix_engine import PrefixEngine
from anamnesis.engine.scoring import Question
from anamnesis.figures.style import WIDTH
from anamnesis.vectors.activations import is_correct, mean_head_activations
from anamnesis.vectors.icl import PromptPlan, build_prompts, encode_questions
from anamnesis.vectors.instruction import instruction_vector
from anamnesis.vectors.optimised import Optimisation
from tiny_models import shared, token_ids, tokenizer

S = [(2, 1), (0, 3), (2, 0)]
PLAN = Plan((2, 4, 9), 3, S, Optimisation(1, 3, 4, 0.1), 1.0, 2, True, 5, 3, 200)


def task(count: int = 7) -> pd.DataFrame:
    rows = [
        (split, f"{split}-{i}", "Say it twice.", f"{split} {i}", f"{i}{i}", None, None)
        for split in ("train", "validation", "test")
        for i in range(count)
    ]
    columns = ["split", "example_id", "instruction", "input", "target", "choices", "label"]
    return pd.DataFrame(rows, columns=columns)


def test_draws_of_one_size_have_no_example_in_common():
    found = draws_of(task(), "twice", PLAN)
    sizes = [size for size, _, _ in found]
    assert sizes == [2, 2, 2, 4, 4, 4]  # of 14 examples there are no two draws of nine
    for size in (2, 4):
        used = [index for s, _, indices in found if s == size for index in indices]
        assert len(used) == len(set(used)) == 3 * size
        assert not set(task().split[used]) & {"test"}
    assert draws_of(task(), "twice", PLAN) == found
    assert draws_of(task(), "twice", replace(PLAN, seed=4)) != found
    with pytest.raises(UserError, match=r"prompts = \[9\]: twice has 14 training and validation"):
        draws_of(task(), "twice", replace(PLAN, sizes=(9,)))


def test_means_are_those_of_the_workflow():
    """Of one batch of questions with few right answers, and of one with many."""
    model = shared("llama")
    prompts = token_ids(5, 9, 7, 11, 8, 6, 12, 10)
    for wrong in (0, 5):
        answers = [reference.greedy(model, p, 1) for p in prompts]
        answers = [[(a[0] + 1) % 300 + 1] if i < wrong else a for i, a in enumerate(answers)]
        questions = [Question(p, [a]) for p, a in zip(prompts, answers, strict=True)]
        outputs, scores, _ = scored_outputs(PrefixEngine(model), questions, 60)
        right = torch.tensor([is_correct(score) for score in scores])
        assert int(right.sum()) == 7 - wrong
        expected = mean_head_activations(PrefixEngine(model), questions, 60).mean
        torch.testing.assert_close(averaged(outputs, right), expected, rtol=1e-5, atol=1e-6)


def test_vectors_of_heads_are_compared_as_plain_passes_give_them():
    model = shared("llama")
    said = []
    rows = vectors_of_draws(PrefixEngine(model), tokenizer(), task(), "twice", Template(), PLAN, said.append)
    assert list(rows.columns) == COLUMNS
    assert len(said) == 6
    counts = rows.groupby(["measure", "extractor"]).size().to_dict()
    assert counts == {
        ("accuracy", "heads"): 6, ("accuracy", "none"): 1, ("accuracy", "optimised"): 6,
        ("cosine", "both"): 6, ("cosine", "heads"): 6, ("cosine", "optimised"): 6,
    }  # fmt: skip
    frame = task()
    drawn_rows = draws_of(frame, "twice", PLAN)
    pool = frame.loc[sorted({i for _, _, indices in drawn_rows for i in indices})]
    asked = pd.concat([frame[frame.split == "train"], pool.assign(split="validation")])
    prompts = build_prompts(asked, "twice", PromptPlan(2, len(pool), 0), Template(), 3).set_index("query_id")
    thetas = {}
    for size, draw, indices in drawn_rows:
        questions = encode_questions(tokenizer(), prompts.loc[frame.example_id[indices]])
        mean = torch.stack([reference.head_outputs(model, q.context) for q in questions]).mean(0)
        thetas[size, draw] = instruction_vector(find_heads(model), mean, S)  # all answers are wrong
    own = rows[(rows.extractor == HEADS) & (rows.measure == "cosine")]
    for row in own.itertuples():
        pair = thetas[row.prompts, row.draw], thetas[row.prompts, row.other]
        assert row.value == pytest.approx(float(torch.cosine_similarity(*pair, dim=0)), abs=1e-5)
    optimised = rows[(rows.extractor == OPTIMISED) & (rows.measure == "cosine")]
    assert not np.allclose(optimised.value, own.value)
    assert set(rows.layer) == {1}
    again = vectors_of_draws(PrefixEngine(model), tokenizer(), task(), "twice", Template(), PLAN)
    pd.testing.assert_frame_equal(rows, again)
    assert reference.hook_count(model) == 0


def made(better: float = 0.5) -> pd.DataFrame:
    """Two sets, three draws: cosines of heads 0.9, of optimised vectors lower by ``better``."""
    rows = []
    for name in ("antonym", "past_tense"):
        rows.append((name, 3, 0, "none", "accuracy", -1, -1, 0.125, 24))
        for size in (5, 40):
            for draw, other in ((0, 1), (0, 2), (1, 2)):
                for kind, cosine in (("heads", 0.9), ("optimised", 0.9 - better), ("both", 0.3)):
                    pair = (draw, draw) if kind == "both" else (draw, other)
                    rows.append((name, 3, size, kind, "cosine", *pair, cosine, 1))
                    if kind != "both":
                        accuracy = 0.5 + 0.1 * (draw + other - 2)
                        rows.append((name, 3, size, kind, "accuracy", draw + other - 1, -1, accuracy, 24))
    return pd.DataFrame(rows, columns=COLUMNS)


def test_means_and_spread_over_draws():
    table = robustness_table(made()).set_index(["set", "extractor", "measure", "prompts"])
    row = table.loc[("antonym", "heads", "accuracy", 5)]
    assert (row["mean"], row["sd"], row["least"], row["most"]) == pytest.approx((0.5, 0.1, 0.4, 0.6))
    assert (row["count"], row["n"]) == (3, 24)


def test_the_table_holds_the_numbers_of_every_size():
    table = numbers(made())
    first = dict(zip(table.header, table.rows[0], strict=True))
    assert (first["Set"], first["Prompts"], first["Cosine, heads"]) == ("antonym", 5, "0.90")
    assert (first["Cosine, optimised"], first["None added"]) == ("0.40", "12.5\u00a0%")
    assert first["Accuracy, heads"] == "50.0\u00a0% ± 10"
    assert [row[:2] for row in table.rows][1] == ["antonym", 40]
    assert len(table.rows) == 4


def test_the_answer_counts_pairs_of_draws():
    assert verdict(made()).startswith("The data support that")
    assert "in 6 of n = 6 pairs" in verdict(made())
    assert verdict(made(-0.05)).startswith("The data do not support")
    mixed = made()
    mixed.loc[(mixed.extractor == "optimised") & (mixed["set"] == "antonym") & (mixed.draw == 0), "value"] = 1
    assert verdict(mixed).startswith("The data are too few")
    assert verdict(made()[lambda frame: frame["set"] == "antonym"]).startswith("The data are too few")


def test_the_figure_fits_the_page():
    figure = drawn.robustness(made())
    figure.canvas.draw()
    box, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    assert width == WIDTH
    assert min(box.x0, box.y0) >= -0.01
    assert box.x1 <= width + 0.01
    assert box.y1 <= height + 0.01
    with pytest.raises(UserError, match="is empty"):
        drawn.robustness(made().iloc[:0])

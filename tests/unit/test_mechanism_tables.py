"""Stages put together: what a stage took and what may predict it, methods side by side, figures, claims."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import mechanism_tables as made
from anamnesis.analyses.mechanisms import figure as mechanisms
from anamnesis.analyses.mechanisms import forgetting_figure as forgetting
from anamnesis.analyses.mechanisms.claims import beside_claims, comparison_table, markdown, tabled
from anamnesis.analyses.mechanisms.comparison import associations, interference_along, pairs_frame
from anamnesis.analyses.mechanisms.last_stage import chain_summary, compared
from anamnesis.core.errors import UserError
from anamnesis.figures.style import save_figure
from anamnesis.stats.correlation import correlation

ROOT = Path(__file__).resolve().parents[2]
CLAIMS = ROOT / "workflow" / "reference" / "mechanisms_claims.csv"


@pytest.fixture(scope="module")
def tables():
    found = made.measured()
    return {**found, "interference": interference_along(found["gradients"], made.ORDERS)}


@pytest.fixture(scope="module")
def pairs(tables):
    return pairs_frame(made.curves(), tables, made.vectors(), made.ORDERS, made.CUTOFFS["output"])


@pytest.fixture(scope="module")
def found(tables, pairs):
    """(correlations, one number per chain, methods side by side)."""
    summary = chain_summary(tables, made.CUTOFFS)
    return associations(pairs, 200, 0.95), summary, compared(summary, 200, 0.95)


def test_interference_is_that_of_the_next_task_at_the_weights_before_it(tables):
    frame = tables["interference"]
    assert sorted(frame.stage.unique()) == [1, 2, 3]
    roles = frame[frame.stage == 2].groupby("set").role.first().to_dict()
    assert roles == {"one": "learnt", "three": "later", "far": "held_out", "near": "held_out"}
    gradients = tables["gradients"]
    at = (gradients.method == "inclora") & (gradients.seed == 1) & (gradients.stage == 1)
    row = gradients[
        at & (gradients.set == "one") & (gradients.other == "two") & (gradients.matrix == "all")
    ].iloc[0]
    same = frame[(frame.method == "inclora") & (frame.seed == 1) & (frame.stage == 2) & (frame.set == "one")]
    assert same[same.matrix == "all"].iloc[0][["new", "cosine"]].tolist() == ["two", row.cosine]


def test_pairs_are_sets_learnt_before_or_held_out(pairs):
    one = pairs[(pairs.method == "inclora") & (pairs.seed == 0)]
    learnt = one[one.role == "learnt"].groupby("stage").set.unique().map(list).to_dict()
    assert learnt == {2: ["one"], 3: ["one", "two"]}
    assert set(one[one.role == "held_out"].set) == {"far", "near"}
    assert not (
        (pairs.set == pairs.new) | pairs[["method", "order", "seed", "stage", "set"]].duplicated()
    ).any()


def test_changes_are_from_the_stage_before(pairs, tables):
    assert pairs.accuracy_drop.to_numpy() == pytest.approx(0.1)
    assert pairs.few_shot_drop.to_numpy() == pytest.approx(0.05)
    rise = 0.1 * (made.LAYERS - 1) / 2 / made.LAYERS  # mean over layers of 0.1 layer / LAYERS
    assert pairs.drift_rise.to_numpy() == pytest.approx(rise)
    row = pairs[
        (pairs.method == "inclora") & (pairs.seed == 0) & (pairs.stage == 3) & (pairs.set == "two")
    ].iloc[0]
    keys = {"method": "inclora", "seed": 0, "set": "two"}
    losses = tables["losses"]
    for key, value in keys.items():
        losses = losses[losses[key] == value]
    losses = losses.set_index("stage").loss
    assert row.loss_rise == pytest.approx(losses[3] - losses[2])
    assert row.vector_cosine == pytest.approx(0.1 * 1 - 0.1 * 2)
    hidden = tables["similarity"]
    at = (hidden.method == "inclora") & (hidden.seed == 0) & (hidden.stage == 2)
    assert row.hidden_cosine == hidden[at & (hidden.set == "two") & (hidden.other == "three")].hidden.item()
    assert pairs[pairs.sharpening.notna()].groupby("stage").set.unique().map(list).to_dict() == {
        2: ["one"],
        3: ["one"],
    }


def test_correlations_are_those_of_scipy():
    rng = np.random.default_rng(0)
    x = rng.standard_normal(30)
    y = x**3 + rng.standard_normal(30)
    value, low, high = correlation(x, y, ranked=False, resamples=2000, confidence=0.95)
    assert value == pytest.approx(stats.pearsonr(x, y)[0])
    theirs = stats.bootstrap(
        (x, y), lambda a, b: stats.pearsonr(a, b)[0], paired=True, vectorized=False, n_resamples=2000,
        method="percentile", rng=1,
    ).confidence_interval  # fmt: skip
    assert (low, high) == pytest.approx(tuple(theirs), abs=0.05)
    assert correlation(x, y, True, 10, 0.95)[0] == pytest.approx(stats.spearmanr(x, y)[0])
    assert correlation(x, np.exp(x), True, 10, 0.95) == pytest.approx((1, 1, 1))
    assert np.isnan(correlation(x, np.full(30, 0.1) + 1e-15 * x, False, 10, 0.95)).all()
    assert np.isnan(correlation(x[:3], y[:3], False, 10, 0.95)).all()


def test_each_association_says_of_how_many_pairs(found, pairs):
    rows = found[0].set_index(["sets", "outcome", "predictor"])
    assert rows.loc[("all", "loss_rise", "gradient_cosine"), "n"] == len(pairs)
    assert rows.loc[("learnt", "loss_rise", "hidden_cosine"), "n"] == (pairs.role == "learnt").sum()
    assert (
        rows.loc[("all", "loss_rise", "sharpening"), "n"] == 8
    )  # the first task, two later stages, four chains
    assert np.isnan(rows.loc[("all", "accuracy_drop", "hidden_cosine"), "pearson"])  # it does not vary


def test_summary_is_of_the_last_stage_and_the_middle_layers(found, tables):
    _, summary, comparison = found
    values = summary.set_index(["method", "seed", "measure"]).value
    assert values["inclora", 0, "cka"] == pytest.approx(0.85)
    assert values["inclora", 0, "rotation"] == pytest.approx(30 + 2.5)  # layers 2 and 3 of 6
    heads = tables["heads"].query("method == 'inclora' and seed == 0 and stage == 3")
    share = (heads.groupby(["layer", "head"]).output.mean() > 0.1).mean()
    assert values["inclora", 0, "output_heads"] == pytest.approx(share)
    assert "routing" not in set(summary.measure)
    row = comparison[(comparison.kind == "difference") & (comparison.measure == "conflicts")].iloc[0]
    gain = [values["inclora-ivg", s, "conflicts"] - values["inclora", s, "conflicts"] for s in (0, 1)]
    assert row["mean"] == pytest.approx(np.mean(gain))
    assert (row.method, row.n) == ("inclora-ivg", 2)
    assert (row.low, row.high) == pytest.approx(stats.ttest_1samp(gain, 0).confidence_interval(0.95))


def test_differences_that_are_all_equal_have_no_interval(found):
    alike = compared(found[1].assign(value=0.5), 50, 0.95)
    assert alike[alike.kind == "difference"].n.max() == 2
    cells = [cell for row in comparison_table(alike).rows for cell in row]
    assert "+0 (n=2)" in cells
    assert not [cell for cell in cells if "nan" in cell]


def test_claims_stand_beside_what_was_measured(found, tables, pairs):
    reference = pd.read_csv(CLAIMS)
    claims = beside_claims(reference, tables, pairs, found[0], found[1], made.CUTOFFS)
    assert list(claims.claim) == list(reference.claim)
    cka = claims[reference.quantity == "cka"].iloc[0]
    assert cka.here == "by 0.15 [0.15, 0.15] in the middle third"
    assert cka.n == "4 chains"
    text = markdown(tabled(found[2], found[0], claims))
    assert text.count("\n## ") + text.startswith("## ") == 3
    assert "| forgetting correlates with task similarity (Pearson) | 0.87 |" in text
    assert "| CKA with the model before training, middle third of the layers | 0.85 ± 0 (n=2) |" in text
    assert "no targets" in text


def figures(tables, pairs, found):
    return {
        "interference": mechanisms.interference(mechanisms.interference_data(tables["interference"])),
        "drift": mechanisms.drift(tables["drift"]),
        "disruption": mechanisms.disruption(mechanisms.disruption_data(tables["heads"]), made.CUTOFFS),
        "landscape": forgetting.landscape(tables["landscape"]),
        "predictors": forgetting.predictors(pairs, found[0]),
    }


def test_figures_are_drawn_inside_their_page(tables, pairs, found, tmp_path):
    for name, figure in figures(tables, pairs, found).items():
        figure.canvas.draw()
        page = figure.bbox
        for axes in figure.axes:
            if axes.get_visible():
                box = axes.get_tightbbox()
                assert box.x0 > -1, name
                assert box.y0 > -1, name
                assert box.x1 < page.width + 1, name
                assert box.y1 < page.height + 1, name
        for path in save_figure(figure, pairs, tmp_path / name):
            assert path.stat().st_size > 500


def test_figures_show_the_numbers_of_the_tables(tables, pairs, found):
    drawn = figures(tables, pairs, found)
    panel = drawn["drift"].axes[0]
    after_last = panel.lines[-1].get_ydata()
    assert after_last == pytest.approx([0.85] * made.LAYERS)
    data = mechanisms.disruption_data(tables["heads"])
    share = drawn["disruption"].axes[0].lines[0].get_ydata()
    expected = (
        100 * (data[data.method == "inclora"].set_index("layer").attention > 0.1).groupby(level=0).mean()
    )
    assert share == pytest.approx(expected.to_numpy())
    titles = [axes.get_title(loc="left") for axes in drawn["predictors"].axes]
    assert any(f"n = {len(pairs)}" in title for title in titles)


def test_interference_of_a_single_stage_cannot_be_drawn(tables):
    first = tables["interference"].query("stage == 1")
    with pytest.raises(UserError, match="train two stages or more"):
        mechanisms.interference(mechanisms.interference_data(first))

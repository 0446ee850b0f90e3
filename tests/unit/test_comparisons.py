"""Methods compared chain by chain beyond the pairs of Table 1."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from anamnesis.config import load_config
from anamnesis.config.variants import paired_comparisons
from anamnesis.core.errors import UserError
from anamnesis.stats.comparisons import by_order, comparison_markdown, comparison_table
from anamnesis.stats.intervals import bootstrap_interval, paired_interval
from anamnesis.stats.paper_table import direction_cells, published_markdown
from anamnesis.stats.printed import to_csv, to_markdown
from anamnesis.stats.summary import table1

SUITE = {"name": "tiny", "orders": [["news_topic", "word_length"]], "held_out": ["antonym"]}
KNOWN = ("antonym", "news_topic", "word_length")


def measures(**methods: list[float]) -> pd.DataFrame:
    """One chain per number and method, seeds 0, 1, ...; every measure has that value."""
    rows = [
        {"method": m.replace("_", "-"), "order": 1, "seed": s, "scorer": "sum"}
        | dict.fromkeys(("hp", "ip", "op", "forgetting", "bwt"), value)
        for m, values in methods.items()
        for s, value in enumerate(values)
    ]
    return pd.DataFrame(rows).astype({"order": "Int64", "seed": "Int64"})


def test_plain_methods_are_compared_with_inclora_and_variants_with_what_they_name():
    training = {"methods": ["inclora", "inclora-ivg", "lwf", "lwf-ivg", "kl", "control"]}
    variants = {
        "kl": {"of": "lwf"},
        "control": {"of": "inclora-ivg", "against": ["inclora", "kl", "ewc"]},
    }
    config = load_config(
        {"suite": SUITE, "interventions": {"sets": []}, "training": training, "variants": variants}, KNOWN
    )
    assert [(r["kind"], r["method"], r["against"]) for r in paired_comparisons(config)] == [
        ("method", "lwf", "inclora"),
        ("variant", "kl", "lwf"),
        ("variant", "control", "inclora-ivg"),
        ("variant", "control", "inclora"),
        ("variant", "control", "kl"),  # ewc is not trained here
    ]
    variants["control"]["against"] = ["nobody"]
    with pytest.raises(UserError, match=r"variants.control.against: unknown method 'nobody'"):
        load_config(
            {"suite": SUITE, "interventions": {"sets": []}, "training": training, "variants": variants}, KNOWN
        )


def test_differences_are_paired_by_order_and_seed():
    frame = measures(inclora=[0.1, 0.3, 0.2], lwf=[0.2, 0.5, 0.1])
    table = comparison_table(frame.sample(frac=1, random_state=1), [row("method", "lwf", "inclora")])
    assert len(table) == 5
    found = table[table.measure == "ip"].iloc[0]
    assert found["mean"] == pytest.approx(np.mean([0.1, 0.2, -0.1]))
    low, high = stats.ttest_1samp([0.1, 0.2, -0.1], 0).confidence_interval(0.95)
    assert (found["low"], found["high"]) == (pytest.approx(low), pytest.approx(high))
    assert (found["n"], found["interval"]) == (3, "t")


def test_what_was_not_run_yet_has_no_rows():
    frame = measures(inclora=[0.1, 0.3, 0.2], lwf=[0.2, 0.5, 0.1])
    asked = [row("method", "lwf", "inclora"), row("variant", "later", "inclora")]
    assert set(comparison_table(frame, asked)["method"]) == {"lwf"}
    assert comparison_table(frame, asked[1:]).empty
    assert comparison_markdown(comparison_table(frame, asked[1:])) == ""


def row(kind: str, method: str, against: str) -> dict[str, str]:
    return {"kind": kind, "method": method, "against": against}


def test_the_note_counts_intervals_without_zero():
    frame = measures(inclora=[0.1, 0.3, 0.2], lwf=[0.2, 0.4, 0.31], ewc=[0.4, 0.1, 0.2])
    text = comparison_markdown(
        comparison_table(frame, [row("method", "lwf", "inclora"), row("method", "ewc", "inclora")])
    )
    assert "5 of 10 intervals exclude zero, where 0.5 would" in text
    assert "weak evidence with n = 3" in text
    assert "| lwf | inclora | +10.3 [" in text
    assert comparison_markdown(comparison_table(frame, [])) == ""


@pytest.mark.parametrize("pairs", [3, 6])
def test_few_pairs_get_students_interval_and_many_a_bootstrap(pairs):
    draws = np.random.default_rng(3).normal(0.1, 1.0, size=(400, pairs))
    covered = sum(low <= 0.1 <= high for low, high, how in map(paired_interval, draws) if how == "t")
    assert 364 <= covered <= 394  # 95 % of 400 are 380, with a standard error of 4.4
    bootstrapped = sum(low <= 0.1 <= high for low, high, _ in (bootstrap_interval(x, 200) for x in draws))
    assert bootstrapped < covered - 20  # why
    assert paired_interval(draws[:40, 0], 200)[2] == "BCa"
    assert paired_interval([0.1])[2] == ""


@pytest.mark.parametrize(
    ("ours", "said"),
    [
        ([0.2, 0.21, 0.19], "published ++, here +: agrees, few pairs"),
        ([-0.2, -0.21, -0.19], "published ++, here −: differs, few pairs"),
        ([0.2, -0.21, 0.19], "published ++, here +: undecided"),
    ],
)
def test_a_direction_is_decided_by_the_interval(ours, said):
    frame = measures(inclora=[0.5, 0.5, 0.5], inclora_ivg=[0.5 + x for x in ours])
    published = pd.DataFrame(
        [(b, "inclora", g, v, v, v) for b in ("a", "b") for g, v in (("no", 10.0), ("yes", 11.0))],
        columns=["benchmark", "method", "guided", "hp", "ip", "op"],
    )
    header, rows = direction_cells(table1(frame), published)
    assert header == ["Method", "HP", "IP", "OP"]
    assert rows == [["inclora", said, said, said]]
    published.loc[3, ["hp"]] = 1.0
    assert direction_cells(table1(frame), published)[1][0][1].startswith("published +−")
    assert direction_cells(table1(frame), published)[1][0][1].endswith("undecided")


@pytest.mark.parametrize("seeds", [1, 3])
def test_tables_read_from_files_print_as_they_were_made(seeds):
    """The report reads them: what is empty in a file comes back as NaN."""
    frame = measures(inclora=[0.1, 0.3, 0.2][:seeds], inclora_ivg=[0.2, 0.4, 0.31][:seeds], lwf=[0.5] * seeds)
    published = pd.DataFrame(
        [("a", "inclora", g, v, v, v, "them") for g, v in (("no", 10.0), ("yes", 11.0))],
        columns=["benchmark", "method", "guided", "hp", "ip", "op", "source"],
    )
    for made, show in (
        (table1(frame), to_markdown),
        (table1(frame), lambda table: published_markdown(table, published)),
        (comparison_table(frame, [row("method", "lwf", "inclora")]), comparison_markdown),
        (comparison_table(frame, []), comparison_markdown),
    ):
        assert show(pd.read_csv(io.StringIO(to_csv(made)))) == show(made)
        assert "nan" not in show(made)


def test_each_order_by_itself_where_a_pair_went_through_several():
    """A difference that has one sign in the first order and the other in the second."""
    names, first = ("inclora", "inclora-ivg", "lwf", "ewc"), [0.1, 0.2, 0.3]
    there = measures(inclora=first, inclora_ivg=[0.2, 0.3, 0.5], lwf=first, ewc=first)
    back = measures(inclora=first, inclora_ivg=[0.0, 0.1, 0.1], lwf=[0.2, 0.3, 0.4], ewc=first)
    back["order"] = 2
    frame = pd.concat([there, back[back.method != "ewc"]], ignore_index=True)
    compared = [row("method", name, "inclora") for name in names[2:]]
    compared.append(row("variant", "inclora-ivg", "inclora"))  # named under `against`, and a guided too
    table = comparison_table(frame, [*compared[:1], *by_order(frame, compared)], 100)
    assert table["order"].isna().sum() == 5  # one comparison over all orders
    table = table[table["order"].notna()]
    op = table[table.measure == "op"].set_index(["method", "against", "order"])
    assert list(op.index) == [(m, "inclora", o) for m in ("inclora-ivg", "lwf") for o in (1, 2)]
    assert op["mean"].tolist() == pytest.approx([0.4 / 3, -0.4 / 3, 0.0, 0.1])
    assert (set(op["n"]), set(op["kind"])) == ({3}, {"order"})
    low, high = stats.ttest_1samp([0.1, 0.1, 0.2], 0).confidence_interval(0.95)
    assert tuple(op.iloc[0][["low", "high"]]) == (pytest.approx(low), pytest.approx(high))

    read = pd.read_csv(io.StringIO(to_csv(pd.concat([comparison_table(frame, compared, 100), table]))))
    text = comparison_markdown(read)
    assert "| inclora-ivg | inclora | 2 | −13.3 [" in text
    assert "| lwf | inclora | +5.0 [" in text
    assert by_order(there, compared) == []

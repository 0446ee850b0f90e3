"""The three numbers of the first screen, and words that would claim more than a number does."""

from __future__ import annotations

import pandas as pd
import pytest
from test_first_screen import DIFFERENCES, HP, IP, KNOWN, NAN, NOTHING, SINGLE, held_out, plain, table

from anamnesis.report import glossary, sentences
from anamnesis.report.first_screen import first_numbers
from anamnesis.stats.paper_table import direction_cells


def numbers(frame, differences=NOTHING):
    return first_numbers(frame.assign(confidence=0.9), differences.assign(confidence=0.9))


def test_what_was_lost_what_stayed_and_what_guidance_changed():
    lost, stayed, guidance = numbers(held_out(HP, IP, KNOWN, SINGLE), table(*DIFFERENCES))
    assert (lost.label, lost.value, lost.unit) == ("What was lost", "−28.0", "points")
    assert plain(lost.interval) == "90 % interval −30.0 to −26.0, n = 3 chains"
    assert plain(lost.sentence) == (
        "Training with inclora took zero-shot accuracy on 5 held-out sets from 70.0 % to 42.0 %."
    )
    assert (stayed.label, stayed.value) == ("What stayed", "+1.3")
    assert "on the 4 held-out sets that can be asked" in stayed.sentence
    assert (guidance.label, guidance.value) == ("What guidance changed", "+21.3")
    assert plain(guidance.sentence) == (
        "With guidance (inclora-ivg), zero-shot accuracy on held-out sets ends 21.3 points higher than "
        "without (inclora)."
    )


@pytest.mark.parametrize(
    ("mean", "ends"),
    [
        (-0.05, "5.0 points lower than without"),
        (0.0002, "as high as without"),
        (-0.0002, "as high as without"),
    ],
)
def test_guidance_may_do_harm_or_nothing(mean, ends):
    (_, guidance) = numbers(held_out(HP), table(("hp", mean, -0.1, 0.1, 3)))
    assert ends in plain(guidance.sentence)


def test_what_guidance_does_harm_to_beyond_chance_stands_beside_what_it_helps():
    harmed = [("hp", 0.2, 0.1, 0.3, 6), ("ip", 0.1, -0.2, 0.4, 6), ("op", -0.05, -0.09, -0.01, 6)]
    (_, guidance) = numbers(held_out(HP), table(*harmed, ("forgetting", 0.076, 0.011, 0.142, 6)))
    assert plain(guidance.sentence).endswith(
        "(inclora). Harm: zero-shot accuracy on the training tasks (OP) is 65.0 % in place of 70.0 % (−5.0, "
        "interval −9.0 to −1.0 points); forgetting of the training tasks is 32.3 % in place of 24.7 % (+7.6, "
        "interval +1.1 to +14.2 points)."
    )
    (_, unsure) = numbers(held_out(HP), table(*harmed[:2], ("forgetting", 0.076, -0.01, 0.142, 6)))
    assert "Harm" not in unsure.sentence


def test_the_set_that_lost_most_is_named_where_there_are_several():
    other = ("hp", "past_tense", "inclora", 0.9, 0.8, -0.2, 0.0, 3, 1, 0)
    (lost,) = numbers(held_out(HP, SINGLE, other))
    assert plain(lost.sentence).endswith(
        "to 42.0 %. It fell on 2 of 2 of them, most on antonym (−98.0 points)."
    )
    rising = [(*row[:3], 0.1, 0.2, *row[5:]) for row in (SINGLE, other)]
    assert "It fell" not in numbers(held_out(HP, *rising))[0].sentence


def test_what_rose_is_not_called_lost():
    (gained,) = numbers(held_out(("hp", "mean", "inclora", 0.2, 0.4, 0.1, 0.3, 3, 1, 0)))
    assert (gained.label, gained.value) == ("What was gained", "+20.0")
    assert "on 1 held-out set from" in gained.sentence
    (equal,) = numbers(held_out(("hp", "mean", "inclora", 0.2, 0.2, -0.1, 0.1, 3, 1, 0)))
    assert (equal.label, equal.value) == ("What was lost", "+0.0")


@pytest.mark.parametrize(
    ("low", "high", "n", "said"),
    [
        (-0.3, -0.2, 6, "Hardly: the interval excludes zero."),
        (
            -0.3,
            -0.2,
            3,
            "Not settled. The interval excludes zero, but 3 chains change in one direction by chance 25",
        ),
        (-0.6, 0.1, 6, "No change is shown: one from −60.0 to +10.0 points is possible."),
        (-0.6, 0.0, 6, "No change is shown: one from −60.0 to +0.0 points is possible."),
        (NAN, NAN, 1, "This cannot be told: one chain has no interval."),
        (NAN, NAN, 3, "This cannot be told: all chains agree, and without spread there is none."),
    ],
)
def test_whether_it_is_chance_follows_the_interval(low, high, n, said):
    (lost,) = numbers(held_out((*HP[:5], low, high, n, 5, 0)))
    assert lost.verdict.startswith(f"Is it chance? {said}")
    assert lost.interval.startswith("no interval") is (low != low)
    assert ("n\u00a0=\u00a01 chain" in lost.interval and "chains" not in lost.interval) is (n == 1)


def published(change):
    return pd.DataFrame(
        [("trace", "inclora", guided, hp, hp, hp) for guided, hp in (("no", 10.0), ("yes", 10.0 + change))],
        columns=["benchmark", "method", "guided", "hp", "ip", "op"],
    )


@pytest.mark.parametrize(
    ("here", "there", "said"),
    [
        ((0.2, 0.1, 0.3), 1.0, "published +, here +: agrees"),
        ((0.0002, 0.0001, 0.0003), 1.0, "published +, here 0: undecided"),
        ((-0.0002, -0.0003, -0.0001), 1.0, "published +, here 0: undecided"),
        ((0.2, 0.1, 0.3), 0.0, "published 0, here +: undecided"),
        ((-0.2, -0.3, -0.1), 0.06, "published +, here −: differs"),
    ],
)
def test_a_difference_that_is_printed_as_zero_has_no_direction(here, there, said):
    rows = table(*((measure, *here, 6) for measure in ("hp", "ip", "op")))
    _, ((_, *cells),) = direction_cells(rows, published(there))
    assert set(cells) == {said}


def curves(after):
    keys = {"role": "held_out", "shots": 5, "form": "instruction", "method": "m"}
    return pd.DataFrame([keys | {"set": "x", "stage": i, "value": v} for i, v in ((0, 0.5), (1, after))])


def test_no_set_moved_most_where_none_moved():
    (same,) = sentences.curves_sentences(curves(0.5002))
    assert same.endswith("on 0 of 1 held-out set; it is the same on all.")
    (other,) = sentences.curves_sentences(curves(0.4))
    assert plain(other).endswith("on 1 of 1 held-out set; it moved most on x (−10.0 points).")


def test_words_and_the_methods_that_ran_are_explained():
    both = glossary.methods({"training": {"methods": ["inclora", "inclora-ivg"]}})
    assert [name for name, _ in both] == ["inclora", "Guidance (-ivg)"]
    assert glossary.methods({"training": {"methods": ["ewc"]}}) == []
    assert glossary.methods({}) == []
    for short in ("HP", "IP", "OP", "BWT", "Forgetting"):
        assert any(term.startswith(short) for term, _ in glossary.terms())
        assert short in glossary.ABBREVIATIONS


def test_knowledge_stands_beside_the_same_sets_asked_with_an_instruction():
    rows = [
        ("hp", "antonym", "inclora", 0.8, 0.4, NAN, NAN, 3, 1, 0),
        ("hp", "other", "inclora", 0.2, 0.1, NAN, NAN, 3, 1, 0),
        ("knowledge", "antonym", "inclora", 0.9, 0.9, NAN, NAN, 3, 1, 0),
    ]  # fmt: skip
    (_, stayed) = numbers(held_out(HP, KNOWN, *rows))
    assert plain(stayed.sentence).endswith(
        "Asked with an instruction, the same sets went from 80.0 % to 40.0 %."
    )


def test_a_variant_is_explained_by_what_it_varies():
    config = {
        "training": {"methods": ["inclora", "lwf-kl"]},
        "variants": {"lwf-kl": {"of": "lwf", "settings": {"weight": 0.5}, "against": ["inclora"]}},
    }
    (_, (name, meaning)) = glossary.methods(config)
    assert name == "lwf-kl"
    assert meaning.startswith("A variant of lwf (learning without forgetting")
    assert meaning.endswith("with settings.weight = 0.5.")

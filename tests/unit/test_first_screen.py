"""The report's first screen: every number comes from the frames, and so does every judgement."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from anamnesis.report.first_screen import first_paragraphs, picture_alt, plain_method
from anamnesis.report.run_facts import start_sentence
from anamnesis.stats.held_out import COLUMNS as HELD_OUT
from anamnesis.stats.held_out import MEAN
from anamnesis.stats.vector_recovery import MEAN as MEAN_RECOVERED

NAN = math.nan


def held_out(*rows) -> pd.DataFrame:
    """``rows``: measure, set, method, before, after, low, high, n, sets, marked; the rest is not shown."""
    keys = ("measure", "set", "method", "before", "after", "low", "high", "n", "sets", "marked")
    frame = pd.DataFrame(rows, columns=keys)
    return frame.assign(change=frame["after"] - frame["before"]).reindex(columns=HELD_OUT)


HP = ("hp", MEAN, "inclora", 0.70, 0.42, -0.30, -0.26, 3, 5, 0)
IP = ("ip", MEAN, "inclora", 0.80, 0.763, -0.05, -0.02, 3, 5, 0)
KNOWN = ("knowledge", MEAN, "inclora", 0.60, 0.613, -0.01, 0.04, 3, 4, 0)
SINGLE = ("hp", "antonym", "inclora", 0.99, 0.01, -1.0, -0.9, 3, 1, 0)
GUIDED = [(m, s, f"{name}-ivg", 0.5, 0.5, -1, 1, 3, 5, 0) for m, s, name, *_ in (HP, IP, KNOWN)]
WHOLE = held_out(*GUIDED, SINGLE, HP, IP, KNOWN)

NOTHING = pd.DataFrame(columns=["kind", "method", "guided", "measure", "mean", "n", "low", "high"])


def table(*rows, method="inclora") -> pd.DataFrame:
    """Differences of Table 1. ``rows``: measure, mean, low, high, n."""
    made = [("difference", method, f"{method}-ivg", m, mean, n, low, high) for m, mean, low, high, n in rows]
    values = {(method, "hp"): 0.9, (method, "op"): 0.7, (f"{method}-ivg", "op"): 0.65,
              (method, "forgetting"): 0.247, (f"{method}-ivg", "forgetting"): 0.323}  # fmt: skip
    levels = [("level", name, None, m, value, 9, NAN, NAN) for (name, m), value in values.items()]
    return pd.DataFrame([*levels, *made], columns=NOTHING.columns)


DIFFERENCES = (
    ("hp", 0.213, 0.10, 0.33, 6),
    ("ip", -0.015, -0.04, 0.01, 6),
    ("op", 0.0, -0.02, 0.02, 6),
    ("forgetting", -0.129, -0.237, -0.021, 6),
    ("bwt", 0.5, 0.4, 0.6, 6),
)


def plain(paragraph: str) -> str:
    return paragraph.replace("\u00a0", " ")


def told(frame=WHOLE, differences=NOTHING, comparisons=None, recovered=None) -> list[str]:
    return [plain(p) for p in first_paragraphs(frame, differences, comparisons, recovered)]


# --- what was lost, and what stayed


def test_what_was_lost_is_the_mean_over_sets_of_the_plain_method():
    assert told()[0] == (
        "What was lost with inclora: zero-shot accuracy on held-out sets (HP) went from 70.0 % to 42.0 %, "
        "−28.0 points [−30.0, −26.0] (n = 3); in-context accuracy on held-out sets (IP) went from 80.0 % to "
        "76.3 %, −3.7 points [−5.0, −2.0] (n = 3)."
    )


@pytest.mark.parametrize("marked", [1, 2, 5])
def test_sets_that_had_nothing_to_lose_are_counted(marked):
    lost = told(held_out((*HP[:-1], marked), IP))[0]
    verb = "is" if marked == 1 else "are"
    assert lost.endswith(f"(n = 3). Before training, {marked} of 5 sets {verb} at floor or chance.")
    assert "floor" not in told(held_out(HP, (*IP[:-1], marked)))[0]  # those of the zero-shot form count


@pytest.mark.parametrize(
    ("low", "high", "n", "end"),
    [
        (0.20, 0.29, 3, "+24.3 points [+20.0, +29.0] (n = 3)."),
        (
            -0.05,
            0.54,
            3,
            "+24.3 points [−5.0, +54.0] (n = 3): the interval contains zero, so no change is shown.",
        ),
        (
            0.0,
            0.5,
            3,
            "+24.3 points [+0.0, +50.0] (n = 3): the interval contains zero, so no change is shown.",
        ),
    ],
)
def test_whether_accuracy_in_context_fell_more_than_zero_shot_is_said(low, high, n, end):
    both = ("ip_hp", MEAN, "inclora", 0.10, 0.343, low, high, n, 5, 0)
    lost = told(held_out(HP, IP, both))[0]
    assert lost == told(held_out(HP, IP))[0] + f" The change in context minus the change zero-shot is {end}"


def test_without_a_few_shot_evaluation_the_other_half_is_left_out():
    assert told(held_out(HP)) == [told()[0].split(";")[0] + "."]


def test_what_stayed_is_knowledge_and_an_interval_with_zero_shows_no_change():
    assert told()[1] == (
        "What stayed: knowledge accuracy went from 60.0 % to 61.3 %, +1.3 points [−1.0, +4.0] (n = 3), on "
        "the 4 held-out sets that can be asked as a plain statement: the interval contains zero, so no "
        "change is shown."
    )


@pytest.mark.parametrize(
    ("low", "high", "decided"),
    [(-0.01, 0.04, False), (0.0, 0.04, False), (-0.1, 0.0, False), (0.01, 0.04, True), (-0.1, -0.01, True)],
)
def test_a_change_is_called_one_where_its_interval_excludes_zero(low, high, decided):
    stayed = told(held_out(HP, (*KNOWN[:5], low, high, 3, 4, 0)))[1]
    assert ("contains zero" in stayed) is not decided
    assert stayed.endswith("plain statement." if decided else "so no change is shown.")


def test_one_chain_has_no_interval_and_shows_no_change():
    lost, stayed = told(held_out((*HP[:5], NAN, NAN, 1, 5, 0), (*KNOWN[:5], NAN, NAN, 1, 4, 0)))
    assert "−28.0 points (n = 1, no interval)." in lost
    assert "+1.3 points (n = 1, no interval)" in stayed


def test_without_a_knowledge_form_nothing_is_said_to_stay():
    paragraphs = told(held_out(HP, IP))
    assert len(paragraphs) == 1
    assert "knowledge" not in " ".join(paragraphs).lower()


def test_the_first_method_without_guidance_is_told_of():
    others = [("hp", MEAN, name, 0.5, 0.4, -1, 1, 3, 5, 0) for name in ("ewc-ivg", "ewc", "inclora")]
    assert plain_method(held_out(*others)) == "ewc"
    assert plain_method(held_out(others[0])) == "ewc-ivg"  # where all are guided


# --- what guidance changed


def test_what_guidance_changed_is_guided_minus_plain_of_the_same_method():
    more = pd.concat([table(("hp", 0.9, 0.8, 1.0, 6), method="ewc"), table(*DIFFERENCES)])
    assert told(differences=more)[2] == (
        "What guidance changed (inclora-ivg − inclora): HP +21.3 points [+10.0, +33.0] (n = 6); IP −1.5 "
        "points [−4.0, +1.0] (n = 6); zero-shot accuracy on the training tasks (OP) +0.0 points "
        "[−2.0, +2.0] (n = 6); forgetting of the training tasks −12.9 points [−23.7, −2.1] (n = 6)."
    )


@pytest.mark.parametrize(
    ("pairs", "chance"), [(2, "0.5"), (3, "0.25"), (4, "0.12"), (5, "0.062"), (6, None), (20, None)]
)
def test_fewer_than_six_pairs_are_weak_evidence(pairs, chance):
    """All differences have one sign with probability 2 · 0.5^n when nothing makes a difference."""
    few = told(differences=table(("hp", 0.2, 0.1, 0.3, 9), ("ip", 0.2, 0.1, 0.3, pairs)))[2]
    assert ("weak evidence" in few) is (chance is not None)
    if chance:
        assert few.endswith(
            f" With n = {pairs} this is weak evidence: as many differences of one sign happen by chance "
            f"with probability {chance}."
        )


@pytest.mark.parametrize(
    "differences", [NOTHING, table(("hp", NAN, NAN, NAN, 0)), table(*DIFFERENCES[:1], method="ewc")]
)
def test_without_pairs_nothing_is_said_of_guidance(differences):
    assert len(told(differences=differences)) == 2


def comparisons(*rows) -> pd.DataFrame:
    """``rows``: kind, method, against, measure, mean, low, high, n."""
    return pd.DataFrame(rows, columns=["kind", "method", "against", "measure", "mean", "low", "high", "n"])


def test_controls_stand_as_guided_minus_control():
    """The table has control − guided: sign and ends of the interval are exchanged."""
    paired = comparisons(
        ("variant", "random-heads", "inclora-ivg", "hp", -0.12, -0.20, -0.04, 6),
        ("variant", "random-heads", "inclora-ivg", "ip", 0.03, -0.01, 0.07, 6),
        ("variant", "random-heads", "inclora-ivg", "op", 0.5, 0.4, 0.6, 6),
        ("variant", "one-pair", "inclora-ivg", "hp", 0.05, NAN, NAN, 1),
        ("variant", "not-run", "inclora-ivg", "hp", NAN, NAN, NAN, 0),
        ("variant", "of-another", "ewc-ivg", "hp", 0.5, 0.4, 0.6, 6),
        ("method", "lwf", "inclora-ivg", "hp", 0.5, 0.4, 0.6, 6),
    )
    whole = told(differences=table(*DIFFERENCES), comparisons=paired)[2]
    alone = told(differences=table(*DIFFERENCES))[2]
    assert whole == alone + (
        " inclora-ivg − random-heads: HP +12.0 points [+4.0, +20.0] (n = 6); "
        "IP −3.0 points [−7.0, +1.0] (n = 6)."
        " inclora-ivg − one-pair: HP −5.0 points (n = 1, no interval)."
    )


# --- what the vector gives back


def recovered(*rows) -> pd.DataFrame:
    """``rows``: method, set, gain, low, high, random_gain, low, high, n."""
    gains = [f"{key}{end}" for key in ("gain", "random_gain") for end in ("", "_low", "_high")]
    return pd.DataFrame(rows, columns=["method", "set", *gains, "n"])


ROWS = (
    ("inclora", "antonym", 0.9, 0.8, 1.0, 0.9, 0.8, 1.0, 3),
    ("inclora", "plural", 0.1, 0.0, 0.2, 0.1, 0.0, 0.2, 3),
    ("inclora", MEAN_RECOVERED, 0.124, 0.05, 0.20, -0.003, -0.02, 0.01, 3),
    ("ewc", MEAN_RECOVERED, 0.5, 0.4, 0.6, 0.5, 0.4, 0.6, 3),
)


def test_what_the_vector_gives_back_is_the_mean_of_the_sets_and_stands_with_the_random_vector():
    assert told(recovered=recovered(*ROWS))[2] == (
        "Whether the vector gives anything back: added after training with inclora, the instruction vector "
        "of the model before training changes zero-shot accuracy by +12.4 points [+5.0, +20.0] (n = 3), a "
        "random vector of equal length by −0.3 points [−2.0, +1.0] (n = 3) (mean of 2 sets)."
    )


def test_of_a_single_set_its_own_row_is_told():
    (*_, said) = told(recovered=recovered(ROWS[1]))
    assert "by +10.0 points [+0.0, +20.0] (n = 3), a random" in said
    assert said.endswith("(mean of 1 set).")


def test_where_no_vector_was_added_after_this_method_nothing_is_said():
    assert len(told(recovered=recovered(ROWS[3]))) == 2


def test_the_paragraphs_come_in_their_order():
    paragraphs = told(differences=table(*DIFFERENCES), recovered=recovered(*ROWS))
    beginnings = [paragraph.split()[:3] for paragraph in paragraphs]
    assert [" ".join(words[1:]) for words in beginnings] == [
        "was lost", "stayed: knowledge", "guidance changed", "the vector",
    ]  # fmt: skip


def test_the_picture_names_the_methods_and_not_the_model_before_training():
    assert picture_alt(["before training", "inclora", "inclora-ivg"]).endswith(": inclora, inclora-ivg")


# --- the start


def test_the_start_says_what_the_tuning_used_and_raised():
    record = {
        "tasks": ["antonym", "plural"],
        "examples": {"antonym": 150, "plural": 116},
        "accuracy_before": {"antonym": 0.1, "plural": 0.02},
        "accuracy_after": {"antonym": 0.5, "plural": 0.9},
    }
    records = {"small/model": {}, "small/tuned/tuning": record}
    assert plain(start_sentence({"model": {"name": "small"}}, records)) == (
        "The model before training is small, tuned on 266 training examples of antonym, plural. That raised "
        "zero-shot accuracy on their validation examples from 6.0 % to 70.0 %."
    )


def test_a_model_that_was_not_tuned_has_no_such_sentence():
    assert start_sentence({"model": {"name": "small"}}, {"small/model": {}, "small/tuned": {}}) == ""

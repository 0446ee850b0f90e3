"""The measures of forgetting against matrices worked out by hand."""

import math

import pandas as pd
import pytest

from anamnesis.core.errors import UserError
from anamnesis.stats.forgetting import (
    COLUMNS,
    accuracy_frame,
    accuracy_matrix,
    backward_transfer,
    few_shots,
    forgetting,
    held_out_performance,
    in_context_performance,
    knowledge_performance,
    mean_scores,
    overall_performance,
    training_tasks,
)

TASKS = ["a", "b", "c"]
# Zero-shot scores: rows are stages 0 to 3, columns a, b, c (trained in this order).
ZERO = [[0.1, 0.2, 0.0], [0.8, 0.3, 0.1], [0.9, 0.7, 0.2], [0.5, 0.6, 0.9]]
HELD_ZERO = [[0.6, 0.4], [0.5, 0.4], [0.4, 0.2], [0.3, 0.1]]
HELD_FEW = [[0.8, 0.6], [0.7, 0.5], [0.5, 0.5], [0.6, 0.2]]


def row(stage, name, role, form, shots, value, metric="accuracy"):
    trained = None if stage == 0 else TASKS[stage - 1]
    return dict(
        zip(COLUMNS, [stage, trained, name, role, form, shots, metric, "sum", value, 10], strict=True)
    )


@pytest.fixture
def frame():
    rows = []
    for stage in range(4):
        rows += [
            row(stage, t, "train_task", "instruction", 0, v) for t, v in zip(TASKS, ZERO[stage], strict=True)
        ]
        for shots, table in ((0, HELD_ZERO), (5, HELD_FEW)):
            rows.append(row(stage, "x", "held_out", "instruction", shots, table[stage][0]))
            rows.append(row(stage, "y", "held_out", "instruction", shots, table[stage][1], "exact_match"))
        rows.append(row(stage, "x", "held_out", "knowledge", 0, 0.55))
    return pd.DataFrame(rows)


def test_levels_after_the_last_stage(frame):
    assert held_out_performance(frame) == pytest.approx((0.3 + 0.1) / 2)
    assert in_context_performance(frame) == pytest.approx((0.6 + 0.2) / 2)
    assert overall_performance(frame) == pytest.approx((0.5 + 0.6 + 0.9) / 3)


def test_levels_before_training(frame):
    assert held_out_performance(frame, stage=0) == pytest.approx(0.5)
    assert in_context_performance(frame, shots=5, stage=0) == pytest.approx(0.7)
    assert overall_performance(frame, stage=0) == pytest.approx(0.1)


def test_knowledge_is_that_of_held_out_sets_in_their_knowledge_form_without_demonstrations(frame):
    """y has no knowledge form; a training task and demonstrations do not count."""
    others = [row(s, "z", "held_out", "knowledge", 0, 0.1 * s) for s in range(4)]
    others += [row(s, "a", "train_task", "knowledge", 0, 0.9) for s in range(4)]
    others += [row(s, "x", "held_out", "knowledge", 1, 0.95) for s in range(4)]
    whole = pd.concat([frame, pd.DataFrame(others)])
    assert knowledge_performance(whole) == pytest.approx((0.55 + 0.3) / 2)
    assert knowledge_performance(whole, stage=1) == pytest.approx((0.55 + 0.1) / 2)
    assert math.isnan(knowledge_performance(frame[frame["form"] == "instruction"]))


def test_forgetting_takes_the_best_score_since_training_without_the_last_stage(frame):
    # a: max(0.8, 0.9) - 0.5 = 0.4; b: 0.7 - 0.6 = 0.1; c is the last task and does not count
    assert forgetting(frame) == pytest.approx((0.4 + 0.1) / 2)


def test_backward_transfer_starts_from_the_stage_of_training(frame):
    # a: 0.5 - 0.8 = -0.3; b: 0.6 - 0.7 = -0.1
    assert backward_transfer(frame) == pytest.approx((-0.3 - 0.1) / 2)


def test_forgetting_is_negative_when_later_training_helps(frame):
    improved = frame.copy()
    improved.loc[(improved["stage"] == 3) & improved["set"].isin(["a", "b"]), "value"] = 1.0
    assert forgetting(improved) == pytest.approx(-((1 - 0.9) + (1 - 0.7)) / 2)
    assert backward_transfer(improved) == pytest.approx(((1 - 0.8) + (1 - 0.7)) / 2)


def test_a_score_before_its_own_training_is_not_forgotten(frame):
    known = frame.copy()
    known.loc[(known["stage"] < 2) & (known["set"] == "b"), "value"] = 1.0
    assert forgetting(known) == pytest.approx(forgetting(frame))


def test_one_task_has_no_forgetting(frame):
    short = frame[frame["stage"] <= 1]
    assert math.isnan(forgetting(short))
    assert math.isnan(backward_transfer(short))


def test_matrix_keeps_stages_and_order_of_sets(frame):
    shuffled = pd.concat([frame[frame["stage"] == s] for s in (2, 0, 3, 1)])
    matrix = accuracy_matrix(shuffled)
    assert list(matrix.index) == [0, 1, 2, 3]
    assert list(matrix.columns) == ["a", "b", "c", "x", "y"]
    assert matrix.loc[2, "b"] == 0.7
    assert list(accuracy_matrix(frame, "knowledge", 0).columns) == ["x"]
    assert training_tasks(shuffled) == TASKS
    assert few_shots(shuffled) == 5
    backwards = frame.iloc[::-1]
    assert list(accuracy_matrix(backwards).columns) == ["y", "x", "c", "b", "a"]
    assert list(accuracy_matrix(backwards).index) == [0, 1, 2, 3]


def test_one_demonstration_is_few_shot_and_the_largest_number_counts(frame):
    one = frame.replace({"shots": {5: 1}})
    assert few_shots(one) == 1
    assert few_shots(pd.concat([frame, one])) == 5


def test_missing_stage_is_named(frame):
    for stage, others in ((0, "1, 2, 3"), (2, "0, 1, 3")):
        message = f"^stage {stage} is missing from the accuracy table \\(stages: {others}\\)$"
        with pytest.raises(UserError, match=message):
            forgetting(frame[frame["stage"] != stage])


@pytest.mark.parametrize(("stage", "name"), [(0, "y"), (3, "y"), (1, "a"), (2, "c")])
def test_missing_set_is_named(frame, stage, name):
    gap = frame[~((frame["stage"] == stage) & (frame["set"] == name))]
    with pytest.raises(UserError, match=rf"set '{name}' was not evaluated at stage {stage}"):
        held_out_performance(gap)


def test_held_out_sets_may_be_evaluated_before_training_and_after_the_last_stage_only(frame):
    ends = frame[(frame["role"] != "held_out") | frame["stage"].isin([0, 3])]
    for measure in (held_out_performance, in_context_performance, overall_performance, forgetting):
        assert measure(ends) == measure(frame)
    assert held_out_performance(ends, stage=0) == held_out_performance(frame, stage=0)
    assert accuracy_matrix(ends)["x"].isna().tolist() == [False, True, True, False]
    with pytest.raises(UserError, match=r"set 'x' was not evaluated at stage 2"):
        held_out_performance(ends, stage=2)


def test_training_task_that_was_never_evaluated_is_named(frame):
    with pytest.raises(UserError, match=r"^set 'b' has no instruction form with 0 shots \(.*: a, c, x, y\)$"):
        forgetting(frame[frame["set"] != "b"])
    few = frame[(frame["set"] != "y") | (frame["shots"] == 0)]
    with pytest.raises(UserError, match=r"^set 'y' has no instruction form with 5 shots \(.*: x\)$"):
        in_context_performance(few)


def test_unknown_stage_form_and_shots_are_refused(frame):
    with pytest.raises(UserError, match=r"^stage 7 is missing from the .* \(stages: 0, 1, 2, 3\)$"):
        overall_performance(frame, stage=7)
    with pytest.raises(UserError, match="unknown form 'knowlege': did you mean 'knowledge'"):
        accuracy_matrix(frame, "knowlege")
    with pytest.raises(UserError, match=r"no instruction form with 3 shots .*evaluated shots: 0, 5"):
        in_context_performance(frame, shots=3)


def test_a_column_that_is_missing_is_named_with_the_table(frame):
    with pytest.raises(UserError, match=r"^accuracy table has no column 'scorer'"):
        accuracy_matrix(frame.drop(columns="scorer"))


def test_two_metrics_for_one_cell_are_refused(frame):
    double = pd.concat([frame, pd.DataFrame([row(1, "x", "held_out", "instruction", 0, 0.2, "exact_match")])])
    with pytest.raises(UserError, match="two values for stage 1, set 'x'"):
        accuracy_matrix(double)


def test_no_few_shot_or_held_out_is_said(frame):
    with pytest.raises(UserError, match=r"^no few-shot evaluation in .* above 0 and evaluate again$"):
        in_context_performance(frame[frame["shots"] == 0])
    with pytest.raises(UserError, match="no set with role 'held_out'"):
        held_out_performance(frame[frame["role"] == "train_task"])


def test_repeated_task_is_refused(frame):
    again = frame.copy()
    again.loc[again["stage"] == 3, "trained_task"] = "a"
    with pytest.raises(UserError, match="task 'a' is trained twice"):
        forgetting(again)
    rows = pd.DataFrame([row(s, "x", "held_out", "instruction", 0, 0.5) for s in range(4)] * 2)
    rows["stage"] = range(8)
    rows.loc[1:, "trained_task"] = [*"cabab", "x", "y"]
    with pytest.raises(UserError, match=r"^task 'a' is trained twice in one chain"):
        training_tasks(rows)


def evaluation(scores, name="a", role="train_task", shots=0, metric="accuracy", empty=False):
    return pd.DataFrame(
        {
            "set": name,
            "role": role,
            "form": "instruction",
            "shots": shots,
            "metric": metric,
            "scorer": "sum",
            "score": scores,
            "empty": empty,
        }
    )


def test_accuracy_frame_averages_examples():
    first = pd.concat(
        [evaluation([1.0, 0.0, 0.0, 0.0]), evaluation([1.0, 1.0], "x", "held_out", 5, "exact_match")]
    )
    # the rows come in parts
    second = [evaluation([1.0, 1.0, 1.0], empty=[True, False, False]), evaluation([0.0], empty=True)]
    frame = accuracy_frame([(1, "a", mean_scores(second, "file")), (0, None, mean_scores([first], "file"))])
    assert list(frame.columns) == [*COLUMNS, "empty"]
    assert frame[["stage", "set", "shots", "metric", "value", "n", "empty"]].to_numpy().tolist() == [
        [0, "a", 0, "accuracy", 0.25, 4, 0.0],
        [0, "x", 5, "exact_match", 1.0, 2, 0.0],
        [1, "a", 0, "accuracy", 0.75, 4, 0.5],
    ]
    assert frame["trained_task"].tolist() == [None, None, "a"]
    assert frame.index.tolist() == [0, 1, 2]


def test_sets_keep_the_order_in_which_they_appear():
    parts = [evaluation([1.0], "x"), evaluation([0.0], "b"), evaluation([1.0], "x"), evaluation([0.5], "a")]
    found = mean_scores([pd.concat(parts[:2]), pd.concat(parts[2:])], "file")
    assert found[["set", "value", "n"]].to_numpy().tolist() == [["x", 1.0, 2], ["b", 0.0, 1], ["a", 0.5, 1]]


def test_names_that_a_file_declares_but_does_not_use_are_no_sets():
    rows = pd.concat([evaluation([1.0, 0.5], "x"), evaluation([0.25], "a")], ignore_index=True)
    names = pd.CategoricalDtype(["a", "unused", "x"])
    found = mean_scores([rows.astype({"set": names})], "file")
    assert found[["set", "value", "n"]].to_numpy().tolist() == [["x", 0.75, 2], ["a", 0.25, 1]]


def test_accuracy_frame_wants_every_stage_once():
    scores = mean_scores([evaluation([1.0])], "file")
    for given, message in (([], "^no evaluation given"), ([0, 0], "stage 0 is given twice")):
        with pytest.raises(UserError, match=message):
            accuracy_frame([(stage, None, scores) for stage in given])


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            evaluation([1.0, math.nan]),
            "^file: score nan on set 'a' is not within 0 to 1; evaluate that stage again$",
        ),
        (evaluation([1.5]), "file: score 1.5"),
        (
            evaluation([1.0])[["set", "score"]],
            r"^file has no column 'role' \(columns: set, score\); write it again$",
        ),
    ],
)
def test_mean_scores_refuse_bad_input(rows, message):
    with pytest.raises(UserError, match=message):
        mean_scores([evaluation([1.0]), rows], "file")

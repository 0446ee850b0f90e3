"""The knowledge form of built-in tasks with written answers: a statement and four ways to end it."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from anamnesis.data.builders import pairs
from anamnesis.data.builtin import BUILTIN, SPLITS, builtin_task, read_table, split_pools

WHOLE = dict.fromkeys(SPLITS, 10_000)
SEEDS = [0, 1, 2]
# task -> (query, answer, the statement of one row)
TASKS = {
    "antonym": ("word", "antonym", "The opposite of {} is"),
    "country_capital": ("country", "capital", "The capital of {} is"),
}
KNOWLEDGE = {"knowledge_prompt", "knowledge_target", "knowledge_choices"}
tasks = pytest.mark.parametrize("task", TASKS)


@tasks
@pytest.mark.parametrize("seed", SEEDS)
def test_four_different_options_of_which_one_is_right(task, seed):
    for row in builtin_task(task, seed, WHOLE).itertuples():
        assert len(row.knowledge_choices) == 4
        assert len(set(row.knowledge_choices)) == 4
        assert row.knowledge_target == row.target
        assert row.knowledge_choices.count(row.target) == 1


@tasks
def test_the_statement_is_that_of_the_row_and_belongs_to_one_split(task):
    query, answer, statement = TASKS[task]
    frame = builtin_task(task, 0, WHOLE)
    answers = {row[query]: row[answer] for row in read_table(BUILTIN[task].table)}
    for row in frame.itertuples():
        prompt = row.knowledge_prompt.replace("capital of the ", "capital of ")
        assert (prompt, row.knowledge_target) == (statement.format(row.input), answers[row.input])
    assert frame["knowledge_prompt"].is_unique
    prompts = {split: set(part["knowledge_prompt"]) for split, part in frame.groupby("split")}
    assert sum(map(len, prompts.values())) == len(set().union(*prompts.values())) == len(frame)


@tasks
def test_wrong_ends_are_of_the_rows_own_split(task):
    """A word of a training example is no option of a test example, and the other way round."""
    pools = split_pools(BUILTIN[task].table, seed=0)
    for row in builtin_task(task, 0, WHOLE).itertuples():
        cells = {cell for entry in pools[row.split] for cell in entry.values()}
        assert set(row.knowledge_choices) <= cells


@tasks
def test_right_ends_stand_anywhere(task):
    frame = builtin_task(task, 0, WHOLE)
    places = Counter(row.knowledge_choices.index(row.target) for row in frame.itertuples())
    assert sorted(places) == [0, 1, 2, 3]
    assert min(places.values()) > len(frame) / 8  # a quarter each, give or take half of that


@tasks
def test_other_columns_are_the_same_with_and_without_a_knowledge_form(task):
    query, answer, _ = TASKS[task]
    pool = split_pools(BUILTIN[task].table, seed=0)["train"]
    plain, known = (
        build(pool, 50, np.random.default_rng((4, 2)))
        for build in (pairs(query, answer), BUILTIN[task].build)
    )
    assert [{key: row[key] for key in ("input", "target")} for row in known] == plain
    assert all(row.keys() == plain[0].keys() | KNOWLEDGE for row in known)


@tasks
def test_options_depend_on_the_seed_only(task):
    first, again, other = (builtin_task(task, seed, {"test": 30}) for seed in (5, 5, 6))
    assert list(first["knowledge_choices"]) == list(again["knowledge_choices"])
    assert list(first["knowledge_choices"]) != list(other["knowledge_choices"])


@pytest.mark.parametrize(("rows", "options"), [(1, 1), (3, 3), (4, 4), (9, 4)])
def test_a_small_pool_gives_as_many_options_as_it_has(rows, options):
    pool = tuple({"country": f"Land {i}", "capital": f"City {i}"} for i in range(rows))
    for example in BUILTIN["country_capital"].build(pool, rows, np.random.default_rng(0)):
        assert len(set(example["knowledge_choices"])) == len(example["knowledge_choices"]) == options
        assert example["knowledge_target"] in example["knowledge_choices"]


def test_words_whose_forms_are_alike_are_one_option():
    def forms(query, answer, wrong):
        return pairs(query, answer, lambda row: f"{row[query]} becomes", lambda row, other: wrong(row, other))

    pool = tuple({"singular": name, "plural": name} for name in ("deer", "sheep", "moose", "series"))
    build = forms("singular", "plural", lambda row, other: [row["singular"], other["plural"]])
    for example in build(pool, 4, np.random.default_rng(0)):
        assert sorted(example["knowledge_choices"]) == ["deer", "moose", "series", "sheep"]
    verb = {"base": "cut", "past": "cut", "gerund": "cutting"}
    build = forms("base", "past", lambda row, other: [row["base"], row["gerund"], other["past"]])
    (example,) = build((verb,), 1, np.random.default_rng(0))
    assert sorted(example["knowledge_choices"]) == ["cut", "cutting"]  # no wrong end is the right one


def test_what_is_a_form_of_a_word_and_no_fact_has_no_knowledge_form():
    for task in ("past_tense", "plural"):
        assert builtin_task(task, 0, {"test": 30})["knowledge_prompt"].isna().all()

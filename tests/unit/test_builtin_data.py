"""The built-in tables and the tasks generated from them."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from anamnesis.data.builtin import BUILTIN, COLUMNS, builtin_task
from anamnesis.data.pools import SPLITS, read_table, split_pools

SIZES = {"train": 200, "validation": 100, "test": 60}
LIST_TASKS = [
    "alphabetically_last_of_5",
    "choose_last_of_5_spanish",
    "object_v_concept_5_spanish",
    "verb_v_adjective_5_spanish",
    "verb_v_adjective_5",
    "object_v_concept_5",
    "choose_first_of_5",
]
KNOWN = ["antonym", "country_capital"]  # written answers with a knowledge form
MULTIPLE_CHOICE = [name for name, task in BUILTIN.items() if task.kind == "multiple_choice"]
CLASSIFICATION = [name for name, task in BUILTIN.items() if task.kind == "classification"]
TABLES = sorted({task.table for task in BUILTIN.values()})
WORDS = {row["word"]: row for row in read_table("words")}


def query_texts(task: str, text: str) -> list[str]:
    """What an input asks about: the words of a list, the question of a multiple choice, the whole text."""
    if task in LIST_TASKS:
        return text.split(", ")
    return [text.split("\n")[0]]


# ---------------------------------------------------------------- tables


@pytest.mark.parametrize(
    ("table", "columns", "least"),
    [
        ("words", ["word", "pos", "spanish", "kind"], 420),
        ("antonyms", ["word", "antonym"], 220),
        ("verbs", ["base", "past", "participle", "gerund", "third_person"], 180),
        ("plurals", ["singular", "plural"], 180),
        ("countries", ["country", "capital", "continent", "language"], 165),
        ("topic_texts", ["text", "topic"], 200),
        ("sentiment_texts", ["text", "label"], 200),
        ("facts", ["statement", "answer", "wrong1", "wrong2", "wrong3"], 100),
    ],
)
def test_table_columns_and_sizes(table, columns, least):
    rows = read_table(table)
    assert list(rows[0]) == columns
    assert len(rows) >= least


@pytest.mark.parametrize("table", TABLES)
def test_table_cells_are_clean_and_first_column_is_unique(table):
    for row in read_table(table):
        assert None not in row.values(), row
        assert None not in row, row
        for column, cell in row.items():
            assert cell == " ".join(cell.split()), row
            assert cell or (column == "kind" and row["pos"] != "noun"), row
    keys = Counter(next(iter(row.values())).lower() for row in read_table(table))
    assert [key for key, count in keys.items() if count > 1] == []


@pytest.mark.parametrize("table", ["antonyms", "verbs", "plurals", "countries"])
def test_english_tables_are_ascii(table):
    assert [row for row in read_table(table) if not "".join(row.values()).isascii()] == []


def test_words_have_known_classes_and_lower_case_single_word_translations():
    counts = Counter((row["pos"], row["kind"]) for row in WORDS.values())
    assert set(counts) == {("noun", "object"), ("noun", "concept"), ("verb", ""), ("adjective", "")}
    assert counts["noun", "object"] >= 120
    assert counts["noun", "concept"] >= 90
    assert counts["verb", ""] >= 110
    assert counts["adjective", ""] >= 110
    for row in WORDS.values():
        assert row["word"].isascii()
        assert row["word"].islower()
        assert row["word"].isalpha()
        assert set(row["spanish"]) <= set("abcdefghijklmnopqrstuvwxyzáéíóúüñ"), row
        assert row["word"] != row["spanish"]


def test_spanish_verbs_are_infinitives_and_adjectives_are_not_feminine():
    for row in WORDS.values():
        if row["pos"] == "verb":
            assert row["spanish"].endswith(("ar", "er", "ir", "ír")), row
        if row["pos"] == "adjective":
            assert not row["spanish"].endswith("a") or row["spanish"] == "egoísta", row


def test_no_word_is_in_two_antonym_pairs():
    words = Counter(word for row in read_table("antonyms") for word in row.values())
    assert [word for word, count in words.items() if count > 1] == []


def test_verb_forms_follow_english_spelling():
    irregular = 0
    for row in read_table("verbs"):
        base = row["base"]
        assert row["gerund"].endswith("ing")
        assert row["gerund"][0] == base[0]
        assert row["third_person"].endswith("s")
        irregular += not row["past"].endswith("ed") or row["past"] in {"bled", "bred", "fed", "led", "fled"}
    assert irregular >= 90


def test_countries_have_distinct_capitals_and_known_continents():
    rows = read_table("countries")
    assert len({row["capital"] for row in rows}) == len(rows)
    continents = {"Africa", "Asia", "Europe", "North America", "South America", "Oceania"}
    assert {row["continent"] for row in rows} == continents


def test_facts_have_four_different_options():
    assert [row for row in read_table("facts") if len(set(row.values())) != 5] == []


# ---------------------------------------------------------------- splits


@pytest.mark.parametrize("table", TABLES)
def test_pools_cover_the_table_without_overlap(table):
    pools = split_pools(table, seed=3)
    keys = [next(iter(row.values())) for split in SPLITS for row in pools[split]]
    assert sorted(keys) == sorted(next(iter(row.values())) for row in read_table(table))
    assert len(pools["train"]) / len(keys) == pytest.approx(0.60, abs=0.02)
    assert len(pools["test"]) / len(keys) == pytest.approx(0.25, abs=0.02)


@pytest.mark.parametrize("seed", [0, 7])
@pytest.mark.parametrize("task", BUILTIN)
def test_no_query_is_shared_between_splits(task, seed):
    frame = builtin_task(task, seed, SIZES)
    queries = {
        split: {query for text in part["input"] for query in query_texts(task, text)}
        for split, part in frame.groupby("split")
    }
    assert set(queries) == set(SPLITS)
    assert not queries["train"] & queries["test"]
    assert not queries["train"] & queries["validation"]
    assert not queries["validation"] & queries["test"]


def test_tested_translations_never_occur_in_training_lists_of_other_tasks():
    tested = set(builtin_task("english_spanish", 0, {"test": 1000})["input"])
    for task in LIST_TASKS:
        trained = {
            word for text in builtin_task(task, 0, {"train": 400})["input"] for word in text.split(", ")
        }
        assert trained
        assert not trained & tested


# ---------------------------------------------------------------- frames


@pytest.mark.parametrize("task", BUILTIN)
def test_frame_has_the_uniform_columns_and_no_duplicates(task):
    frame = builtin_task(task, 0, SIZES)
    assert list(frame.columns) == list(COLUMNS)
    assert frame["example_id"].is_unique
    sizes = frame.groupby("split").size()
    assert list(frame["split"].unique()) == list(SPLITS)
    assert all(sizes[split] <= SIZES[split] for split in SPLITS)
    assert (frame["instruction"] == BUILTIN[task].instruction).all()
    for column in ("input", "target"):
        assert frame[column].map(lambda text: isinstance(text, str) and text == text.strip() != "").all()
    assert not frame.duplicated(["split", "input"]).any()


@pytest.mark.parametrize("task", LIST_TASKS)
def test_list_tasks_reach_the_size_asked_for_with_five_different_words(task):
    frame = builtin_task(task, 0, SIZES)
    assert frame.groupby("split").size().to_dict() == SIZES
    assert {len(set(text.split(", "))) for text in frame["input"]} == {5}


@pytest.mark.parametrize("task", [name for name in BUILTIN if name not in LIST_TASKS])
def test_other_tasks_give_their_whole_pool_when_more_is_asked_for(task):
    frame = builtin_task(task, 0, dict.fromkeys(SPLITS, 10_000))
    assert len(frame) == len(read_table(BUILTIN[task].table))


@pytest.mark.parametrize("task", BUILTIN)
def test_same_seed_same_frame_and_other_seed_other_frame(task):
    first, again, other = (builtin_task(task, seed, SIZES) for seed in (5, 5, 6))
    assert first.equals(again)
    assert list(first["input"]) != list(other["input"])
    if task in LIST_TASKS:
        assert not set(first["input"]) & set(other["input"])


@pytest.mark.parametrize("task", BUILTIN)
def test_a_split_does_not_depend_on_the_other_splits(task):
    whole = builtin_task(task, 2, SIZES)
    alone = builtin_task(task, 2, {"test": SIZES["test"]})
    assert whole[whole["split"] == "test"].reset_index(drop=True).equals(alone)


# ---------------------------------------------------------------- answers


@pytest.mark.parametrize(
    ("task", "answer"),
    [
        ("alphabetically_last_of_5", lambda words: sorted(words)[-1]),
        ("choose_last_of_5_spanish", lambda words: WORDS[words[-1]]["spanish"]),
        ("choose_first_of_5", lambda words: words[0]),
    ],
)
def test_list_tasks_answer_with_one_word_of_the_list(task, answer):
    for text, target in builtin_task(task, 0, SIZES)[["input", "target"]].to_numpy():
        assert target == answer(text.split(", "))


def test_first_letter_answers_with_the_letter_that_the_word_begins_with():
    frame = builtin_task("first_letter", 0, SIZES)
    assert set(frame["input"]) <= set(WORDS)
    assert [text[0] for text in frame["input"]] == list(frame["target"])
    assert set(frame["target"].str.len()) == {1}
    assert frame["target"].nunique() >= 20


@pytest.mark.parametrize(
    ("task", "column", "wanted", "others", "answer"),
    [
        ("object_v_concept_5_spanish", "kind", "object", "concept", "spanish"),
        ("verb_v_adjective_5_spanish", "pos", "verb", "adjective", "spanish"),
        ("object_v_concept_5", "kind", "object", "concept", "word"),
        ("verb_v_adjective_5", "pos", "verb", "adjective", "word"),
    ],
)
def test_odd_one_out_is_single_and_its_position_is_uniform(task, column, wanted, others, answer):
    positions = Counter()
    frame = builtin_task(task, 0, SIZES)
    for text, target in frame[["input", "target"]].to_numpy():
        kinds = [WORDS[word][column] for word in text.split(", ")]
        assert sorted(kinds) == sorted([wanted] + [others] * 4)
        position = kinds.index(wanted)
        assert target == WORDS[text.split(", ")[position]][answer]
        positions[position] += 1
    assert set(positions) == set(range(5))
    assert max(positions.values()) - min(positions.values()) <= len(SPLITS)


@pytest.mark.parametrize(
    ("task", "table", "query", "answer"),
    [
        ("antonym", "antonyms", "word", "antonym"),
        ("past_tense", "verbs", "base", "past"),
        ("present_participle", "verbs", "base", "gerund"),
        ("singular", "plurals", "plural", "singular"),
        ("country_continent", "countries", "country", "continent"),
        ("plural", "plurals", "singular", "plural"),
        ("country_capital", "countries", "country", "capital"),
        ("english_spanish", "words", "word", "spanish"),
    ],
)
def test_pair_tasks_follow_their_table(task, table, query, answer):
    expected = {row[query]: row[answer] for row in read_table(table)}
    frame = builtin_task(task, 0, SIZES)
    assert [expected[text] for text in frame["input"]] == list(frame["target"])


@pytest.mark.parametrize("task", [name for name, task in BUILTIN.items() if task.kind == "generation"])
def test_generation_tasks_have_no_choices_and_some_have_a_knowledge_form(task):
    frame = builtin_task(task, 0, SIZES)
    known = frame[["knowledge_prompt", "knowledge_target", "knowledge_choices"]]
    assert frame[["choices", "label"]].isna().all(axis=None)
    assert known.notna().all(axis=None) if task in KNOWN else known.isna().all(axis=None)


@pytest.mark.parametrize("task", CLASSIFICATION + MULTIPLE_CHOICE)
def test_target_is_the_labelled_choice(task):
    for row in builtin_task(task, 0, SIZES).itertuples():
        assert row.target == row.choices[row.label]
        assert len(set(row.choices)) == len(row.choices)


@pytest.mark.parametrize("task", CLASSIFICATION)
def test_classification_names_its_classes_and_balances_them(task):
    frame = builtin_task(task, 0, SIZES)
    classes = frame["choices"][0]
    assert all(name in BUILTIN[task].instruction for name in classes)
    column = "topic" if task == "news_topic" else "label"
    expected = {row["text"]: row[column] for row in read_table(BUILTIN[task].table)}
    assert [expected[text] for text in frame["input"]] == list(frame["target"])
    counts = Counter(builtin_task(task, 0, {"test": 21})["target"])
    assert set(counts) == set(classes)
    assert max(counts.values()) - min(counts.values()) <= 1


@pytest.mark.parametrize("task", MULTIPLE_CHOICE)
def test_multiple_choice_forms_agree(task):
    for row in builtin_task(task, 0, SIZES).itertuples():
        _, *options = row.input.split("\n")
        assert row.choices == ["A", "B", "C", "D"]
        assert options == [f"{a}. {b}" for a, b in zip(row.choices, row.knowledge_choices, strict=True)]
        assert len(set(row.knowledge_choices)) == 4
        assert row.knowledge_target == row.knowledge_choices[row.label]
        assert "\n" not in row.knowledge_prompt


@pytest.mark.parametrize("task", MULTIPLE_CHOICE)
def test_right_letters_are_uniform_in_every_split(task):
    frame = builtin_task(task, 0, SIZES)
    for _, part in frame.groupby("split"):
        counts = Counter(part["target"])
        assert set(counts) == {"A", "B", "C", "D"}
        assert max(counts.values()) - min(counts.values()) <= 1


@pytest.mark.parametrize(
    ("task", "table", "query", "answer"),
    [
        ("capital_choice", "countries", "country", "capital"),
        ("opposite_choice", "antonyms", "word", "antonym"),
    ],
)
def test_wrong_options_are_answers_of_the_same_pool(task, table, query, answer):
    pools = split_pools(table, seed=0)
    for row in builtin_task(task, 0, SIZES).itertuples():
        answers = {entry[answer]: entry[query] for entry in pools[row.split]}
        assert set(row.knowledge_choices) <= set(answers)
        assert answers[row.knowledge_target] in row.knowledge_prompt
        assert answers[row.knowledge_target] in row.input.split("\n")[0]


def test_facts_take_the_options_of_their_row():
    facts = {row["statement"]: row for row in read_table("facts")}
    for row in builtin_task("general_facts", 0, SIZES).itertuples():
        fact = facts[row.knowledge_prompt]
        assert row.knowledge_target == fact["answer"]
        assert set(row.knowledge_choices) == {fact[key] for key in ("answer", "wrong1", "wrong2", "wrong3")}


@pytest.mark.parametrize(
    ("country", "prompt"),
    [
        ("France", "The capital of France is"),
        ("Netherlands", "The capital of the Netherlands is"),
        ("United Kingdom", "The capital of the United Kingdom is"),
        ("Republic of the Congo", "The capital of the Republic of the Congo is"),
        ("Dominica", "The capital of Dominica is"),
    ],
)
def test_country_names_take_their_article(country, prompt):
    row = {"country": country, "capital": "right"}
    pool = (row, *({"country": name, "capital": f"wrong {name}"} for name in "xyz"))
    prompts = {
        example["knowledge_prompt"]
        for example in BUILTIN["capital_choice"].build(pool, 4, np.random.default_rng(0))
    }
    assert prompt in prompts


@pytest.mark.parametrize(("asked", "given"), [(110, 110), (1000, 120)])
def test_a_small_pool_gives_every_list_it_has_once(asked, given):
    pool = tuple({"word": word, "spanish": word.upper(), "pos": "noun", "kind": "object"} for word in "abcde")
    examples = BUILTIN["choose_last_of_5_spanish"].build(pool, asked, np.random.default_rng(0))
    inputs = [example["input"] for example in examples]
    assert len(set(inputs)) == len(inputs) == given


@pytest.mark.parametrize("task", MULTIPLE_CHOICE)
def test_the_order_of_right_letters_depends_on_the_seed(task):
    first, other = (builtin_task(task, seed, {"test": 40})["target"] for seed in (0, 1))
    assert list(first) != list(other)

"""From the name of a method or variant to the settings of the stages that it trains."""

from __future__ import annotations

from anamnesis.config import Config, load_config
from anamnesis.config.variants import chains, flashback_tasks, resolve, variant_differences

KNOWN = ("antonym", "news_topic", "plural", "word_length")
SUITE = {"name": "tiny", "orders": [["news_topic", "word_length"]], "held_out": ["antonym"]}


def configured(**sections) -> Config:
    return load_config({"suite": SUITE, "interventions": {"sets": []}, **sections}, KNOWN)


def test_single_tasks_have_epochs_of_their_own():
    config = configured(
        training={"methods": ["inclora", "longer", "careful"], "task_epochs": {"news_topic": 3}},
        variants={
            "longer": {"of": "inclora", "training": {"epochs": 2}},
            "careful": {"of": "inclora", "training": {"task_epochs": {"word_length": 4}}},
        },
    )
    found = {
        name: [resolve(config, name).training_on(task)["epochs"] for task in ("news_topic", "word_length")]
        for name in config.training.methods
    }
    assert found == {"inclora": [3, 1], "longer": [3, 2], "careful": [3, 4]}
    assert variant_differences(config)["careful"] == {"training.task_epochs.word_length": 4}


def test_stages_of_other_tasks_stay_as_they_are():
    """So that they are not trained again."""
    few, none = configured(training={"task_epochs": {"news_topic": 3}}), configured()
    assert resolve(few, "inclora").training_on("word_length") == resolve(none, "inclora").training_on(
        "word_length"
    )


def test_some_methods_go_through_every_order_and_the_others_through_the_first():
    suite = SUITE | {"orders": [["news_topic", "word_length"], ["word_length", "news_topic"]]}
    training = {"methods": ["inclora", "ewc"], "seeds": [4, 5]}
    whole = chains(configured(suite=suite, training=training))
    assert [(c["method"], c["order"], c["seed"]) for c in whole] == [
        (m, o, s) for m in ("inclora", "ewc") for o in (1, 2) for s in (4, 5)
    ]
    some = chains(configured(suite=suite, training=training | {"every_order": ["inclora"]}))
    assert some == [c for c in whole if c["method"] == "inclora" or c["order"] == 1]


def test_a_stage_sees_earlier_tasks_and_the_sets_of_flashbacks_each_once():
    asked = ["antonym", "word_length", "plural"]
    config = configured(
        training={"methods": ["jfa", "replay", "inclora", "jfa-bare"]},
        methods={"jfa": {"flashback_tasks": asked}},
        variants={"jfa-bare": {"of": "jfa", "settings": {"flashback_tasks": None}}},
    )
    jfa, replay, inclora, bare = (resolve(config, name) for name in config.training.methods)
    assert jfa.past_tasks([], "news_topic") == asked
    assert jfa.past_tasks(["news_topic"], "word_length") == ["news_topic", "antonym", "plural"]
    assert jfa.past_tasks(["word_length"], "news_topic") == ["word_length", "antonym", "plural"]
    assert bare.past_tasks([], "news_topic") == []
    assert bare.past_tasks(["news_topic"], "word_length") == ["news_topic"]
    assert replay.past_tasks(["news_topic"], "word_length") == ["news_topic"]
    assert inclora.past_tasks(["news_topic"], "word_length") == []
    assert flashback_tasks(config) == asked
    assert flashback_tasks(configured(methods={"jfa": {"flashback_tasks": asked}})) == []  # jfa is not listed

"""The section ``analyses``: what its nulls come to, and what is refused."""

from __future__ import annotations

import pytest

from anamnesis.config.analysed import Analysed, analysed, held_out_sets
from anamnesis.config.load import load_config
from anamnesis.core.errors import UserError

KNOWN = ("antonym", "plural", "news_topic", "word_length", "capital_choice")


def mapping(**analyses) -> dict:
    return {
        "suite": {"name": "s", "orders": [["news_topic", "word_length"]], "held_out": ["antonym", "plural"]},
        "interventions": {"sets": ["antonym", "capital_choice", "news_topic"]},
        "training": {"methods": ["inclora", "jfa", "inclora-ivg"], "seeds": [3, 4]},
        "analyses": analyses,
    }


def test_nulls_follow_the_other_sections():
    found = analysed(load_config(mapping(), KNOWN))
    sets, further = ("antonym", "news_topic"), ("plural",)  # the fourth set, with the three of interventions
    assert found == Analysed(("inclora", "inclora-ivg"), (3,), (1, 2), sets, further)
    alone = mapping() | {"interventions": {"sets": []}}
    found = analysed(load_config(alone, KNOWN))
    assert found.sets == ("antonym", "plural")
    assert found.interventions == ("antonym", "plural", "news_topic", "word_length")


def test_closer_looks_take_held_out_sets_where_there_are_any():
    assert held_out_sets(load_config(mapping(), KNOWN)) == ("antonym",)
    assert held_out_sets(load_config(mapping(sets=["news_topic"]), KNOWN)) == ("news_topic",)


def test_what_is_asked_for_is_taken():
    chosen = {
        "methods": ["inclora-ivg"],
        "seeds": [4],
        "stages": [2],
        "sets": ["plural"],
        "interventions": [],
    }
    found = analysed(load_config(mapping(**chosen), KNOWN))
    assert found == Analysed(("inclora-ivg",), (4,), (2,), ("plural",), ())


def test_jfa_without_latent_tasks_is_followed():
    plain = mapping() | {"methods": {"jfa": {"latent_tasks": False}}}
    assert "jfa" in analysed(load_config(plain, KNOWN)).methods


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("methods", ["inclorra"], "analyses.methods: unknown method 'inclorra': did you mean 'inclora'?"),
        ("methods", ["jfa"], "analyses.methods lists jfa, whose latent tasks"),
        ("seeds", [5], "analyses.seeds: unknown seed '5': (allowed: 3, 4)"),
        ("stages", [3], "analyses.stages: unknown stage '3': (allowed: 1, 2)"),
        ("stages", [0], "analyses.stages[0] = 0"),
        ("sets", ["capital_choice"], "analyses.sets: unknown set 'capital_choice'"),
        ("sets", ["antonym", "antonym"], "analyses.sets: 'antonym' is listed 2 times"),
        ("random_sets", 0, "analyses.random_sets = 0"),
        ("within_stage", {"stages": [3]}, "analyses.within_stage.stages: unknown stage '3': (allowed: 1, 2)"),
        ("within_stage", {"stages": [1, 1]}, "analyses.within_stage.stages: 1 is listed 2 times"),
        ("robustness", {"prompts": [0]}, "analyses.robustness.prompts[0] = 0"),
        ("robustness", {"draws": 1}, "analyses.robustness.draws = 1"),
    ],
)
def test_contradictions_are_named(key, value, said):
    with pytest.raises(UserError) as caught:
        load_config(mapping(**{key: value}), KNOWN)
    assert said in str(caught.value)

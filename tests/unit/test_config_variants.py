"""From the name of a method or variant to the settings of the stages that it trains."""

from __future__ import annotations

import pytest
import yaml

from anamnesis.config import Config, load_config
from anamnesis.config.variants import (
    chains,
    flashback_tasks,
    paired_comparisons,
    resolve,
    variant_comparisons,
    variant_differences,
)
from runs import ROOT

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


# ---------------------------------------------------------------- the scale of an adapter


def scales(config: Config) -> dict[str, tuple[int, float]]:
    """(rank, alpha / rank) of the adapter of each method listed."""
    found = {name: resolve(config, name).training["lora"] for name in config.training.methods}
    return {name: (lora["rank"], pytest.approx(lora["alpha"] / lora["rank"])) for name, lora in found.items()}


@pytest.mark.parametrize(("rank", "alpha"), [(8, 16.0), (8, 32.0), (7, 0.3)])
def test_a_rank_of_its_own_does_not_change_how_much_an_update_counts(rank, alpha):
    config = configured(
        training={
            "methods": ["inclora", "seqlora-ivg", "ewc", "ewc-ivg", "small", "wide"],
            "lora": {"rank": rank, "alpha": alpha},
        },
        methods={"ewc": {"rank": 32}},
        variants={
            "small": {"of": "ewc-ivg", "settings": {"rank": 3}},
            "wide": {"of": "inclora", "training": {"lora": {"rank": 48}}},
        },
    )
    same = alpha / rank
    assert scales(config) == {
        "inclora": (rank, same), "seqlora-ivg": (rank, same), "ewc": (32, same), "ewc-ivg": (32, same),
        "small": (3, same), "wide": (48, same),
    }  # fmt: skip
    assert resolve(config, "inclora").training["lora"]["alpha"] == alpha  # to the last bit
    assert variant_differences(config) == {
        "small": {"training.lora.rank": 3},
        "wide": {"training.lora.rank": 48},
    }


def test_an_alpha_that_a_variant_gives_counts():
    """With its rank as it is; where the method has a rank of its own, the two give the scale."""
    config = configured(
        training={"methods": ["inclora", "given", "alpha", "former"]},
        methods={"ewc": {"rank": 32}},
        variants={
            "given": {"of": "inclora", "training": {"lora": {"rank": 48, "alpha": 12}}},
            "alpha": {"of": "inclora", "training": {"lora": {"alpha": 4}}},
            "former": {"of": "ewc", "training": {"lora": {"alpha": 4}}},
        },
    )
    found = scales(config)
    assert found == {"inclora": (8, 2.0), "given": (48, 0.25), "alpha": (8, 0.5), "former": (32, 0.5)}
    assert resolve(config, "former").training["lora"]["alpha"] == 16
    assert variant_differences(config)["former"] == {"training.lora.alpha": 16}


@pytest.mark.parametrize("name", ["func", "trace", "long", "superni", "methods"])
def test_all_methods_of_an_experiment_have_one_scale(name):
    written = yaml.safe_load((ROOT / f"workflow/experiments/{name}.yaml").read_text())
    training = {key: written["training"][key] for key in ("methods", "lora") if key in written["training"]}
    config = configured(
        training=training, methods=written.get("methods", {}), variants=written.get("variants", {})
    )
    for method, (_, scale) in scales(config).items():
        assert scale == config.training.lora.alpha / config.training.lora.rank, method


def test_the_experiment_has_ewc_without_its_penalty():
    config = load_config([ROOT / "config.yaml", ROOT / "workflow/experiments/methods.yaml"])
    assert variant_differences(config)["ewc-0"] == {"methods.ewc.strength": 0.0}
    pairs = {(r["method"], r["against"]) for r in paired_comparisons(config)}
    assert {("ewc-0", "ewc"), ("ewc-0", "inclora")} <= pairs
    curve = [r for r in variant_comparisons(config) if r["setting"] == "methods.ewc.strength"]
    assert [(r["method"], r["value"]) for r in curve] == [("ewc-0", 0), ("ewc-400", 400), ("ewc", 4000)]
    assert len(chains(config)) == 162


# ---------------------------------------------------------------- what a stage sees


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

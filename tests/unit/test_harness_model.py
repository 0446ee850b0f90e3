"""The engine as a model of lm-evaluation-harness against its own class: same tokens, same answers."""

from __future__ import annotations

import pytest

import reference
import tiny_models
from anamnesis.core.errors import UserError
from anamnesis.engine.pairs import groups_by_prefix
from anamnesis.engine.prefix_engine import PrefixEngine
from tiny_models import token_ids

pytest.importorskip("lm_eval", reason="needs the extra harness: pip install 'anamnesis[harness]'")

from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM

from anamnesis.evaluation.harness.model import EngineLM

MODELS = ("llama", "gemma3", "gpt2", "mistral")
SHOTS = "".join(f"Input: {x}\nOutput: {y}\n\n" for x, y in [("hot", "cold"), ("big", "small")] * 8)
OTHER = "A story. " * 20
PAIRS = [
    *((f"{SHOTS}Input: {x}\nOutput:", f" {y}") for x in ("hot", "dry") for y in ("cold", "a", "wet dog")),
    *((f"{OTHER}What is {word}?", f" {answer}") for word in ("it", "this") for answer in ("yes", "no")),
    ("ends in blanks  ", "answer"),  # they belong to the answer
    ("", "no context"),
    ("", "<end>and on"),  # the token that stands for an empty context
    ("<end>begins as it would", " itself"),
    ("Input: ho", "t and cold"),  # characters of both sides that could be one token
    ("x" * 700, " cut from the left"),
    ("short", "y" * 300),
]  # fmt: skip
TEXTS = ["", "One text.", "Input: hot\nOutput: cold\n\n" * 40, SHOTS + OTHER, "a b c " * 300, "é漢字🙂"]


def instances(kind: str, arguments) -> list[Instance]:
    return [Instance(kind, {}, given, i) for i, given in enumerate(arguments)]


@pytest.fixture(params=MODELS, scope="module")
def both(request):
    """(the harness's own, the engine) for one model."""
    model, tokenizer = tiny_models.shared(request.param), tiny_models.tokenizer()
    theirs = HFLM(pretrained=model, tokenizer=tokenizer, backend="causal", batch_size=1)
    return theirs, EngineLM(PrefixEngine(model), tokenizer, batch_tokens=200)


def test_log_likelihoods_of_any_pair_are_those_of_the_harness(both):
    wanted, found = (lm.loglikelihood(instances("loglikelihood", PAIRS), disable_tqdm=True) for lm in both)
    assert [value for value, _ in found] == pytest.approx([value for value, _ in wanted], abs=1e-4, rel=1e-5)
    assert [flag for _, flag in found] == [flag for _, flag in wanted]


def test_greedy_flags_are_those_of_the_harness(both):
    """Of continuations that begin as the model would; some go on so to their end."""
    contexts = token_ids(3, 5, 40, 1, 17)
    likely = [reference.greedy(both[0].model, context, 4) for context in contexts]
    asked = [
        (None, context, [*answer[:k], *other])
        for context, answer in zip(contexts, likely, strict=True)
        for k in (1, 4)
        for other in ([], [7], [9, 9])
    ]
    wanted, found = (lm._loglikelihood_tokens(asked, disable_tqdm=True) for lm in both)
    assert [flag for _, flag in found] == [flag for _, flag in wanted]
    assert sum(flag for _, flag in found) >= 2 * len(contexts)
    assert [value for value, _ in found] == pytest.approx([value for value, _ in wanted], abs=1e-4)


def test_whole_texts_are_rolled_through_the_same_windows(both):
    """Some are longer than the model reaches."""
    wanted, found = (
        lm.loglikelihood_rolling(instances("loglikelihood_rolling", [(text,) for text in TEXTS]), True)
        for lm in both
    )
    assert max(len(tiny_models.tokenizer()(text).input_ids) for text in TEXTS) > 2 * both[0].max_length
    assert found == pytest.approx(wanted, abs=1e-3, rel=1e-5)


@pytest.mark.parametrize(
    "settings",
    [
        {"until": ["\n"], "max_gen_toks": 6},
        {"until": ["a", "b", "th"], "max_gen_toks": 20, "do_sample": False, "temperature": 0.0},
        {"until": [], "max_new_tokens": 5},
    ],
)
def test_written_answers_are_those_of_the_harness(both, settings):
    asked = [(context, settings) for context, _ in PAIRS if context]
    wanted, found = (lm.generate_until(instances("generate_until", asked), True) for lm in both)
    assert found == wanted
    assert len(set(found)) > 3


def test_requests_with_different_settings_keep_their_places(both):
    asked = [("Input: hot", {"until": [], "max_gen_toks": n}) for n in (1, 4, 2, 4)]
    found = [both[1].tok_encode(text) for text in both[1].generate_until(instances("generate_until", asked))]
    assert found[1] == found[3]
    assert len(found[0]) <= len(found[2]) <= len(found[1])


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"do_sample": True, "temperature": 0.7}, "sampling"),
        ({"temperature": 0.5}, "sampling"),
        ({"num_beams": 4}, "num_beams"),
        ({"max_gen_toks": 512}, "max_gen_toks = 512"),
    ],
)
def test_what_is_not_greedy_text_is_refused_in_one_line(both, settings, named):
    with pytest.raises(UserError, match=named):
        both[1].generate_until(instances("generate_until", [("a", settings)]))


def test_a_continuation_without_a_token_is_refused(both):
    with pytest.raises(UserError, match="0 tokens"):
        both[1].loglikelihood(instances("loglikelihood", [("a", "")]), disable_tqdm=True)


def test_each_source_of_prompts_has_a_prefix_of_its_own():
    first, second, third = ([k] * 200 for k in (1, 2, 3))
    asked = [[*start, i] for i in range(4) for start in (first, second)] + [[*third, 9], [7, 7]]
    groups = groups_by_prefix(asked)
    assert sorted(map(sorted, groups)) == [[0, 2, 4, 6], [1, 3, 5, 7], [8, 9]]
    assert groups_by_prefix([]) == []
    # one within another: demonstrations of all questions, and a text that some of them ask about
    inner = [*first, *second]
    asked = [[*first, i] for i in range(5)] + [[*inner, i] for i in range(5)]
    assert sorted(groups_by_prefix(asked)) == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]


def test_fixed_demonstrations_run_once(both, monkeypatch):
    engine, seen = both[1].engine, []
    inner = engine.model.forward
    monkeypatch.setattr(
        engine.model, "forward", lambda **kw: seen.append(kw["input_ids"].shape[1]) or inner(**kw)
    )
    both[1].loglikelihood(instances("loglikelihood", PAIRS[:6]), disable_tqdm=True)
    whole = sum(len(both[1].tok_encode(context + answer)) for context, answer in PAIRS[:6])
    assert sum(seen) < whole / 4

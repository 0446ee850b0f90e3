"""Llama 4, whose attention goes by chunks and weighs queries by their place: exact until that begins."""

from __future__ import annotations

import pytest
import torch

import reference
from anamnesis.core.errors import UserError
from anamnesis.engine.generation import Request, generate
from anamnesis.engine.pack import Pack, Tree
from anamnesis.engine.prefix_engine import PrefixEngine
from tiny_models import REACH, shared, token_ids


@torch.no_grad()
def test_a_row_of_many_texts_may_be_longer_than_the_reach():
    """Place in the row is not place in the text: the model alone would weigh the later texts otherwise."""
    model = shared("llama4")
    engine, texts = PrefixEngine(model), token_ids(3, REACH, REACH, REACH)
    pack = Pack(tuple(map(Tree, texts)))
    packed = engine.run(pack, range(pack.size))
    for start, text in zip(pack.starts, texts, strict=True):
        reference.close(packed[start : start + len(text)], reference.logits(model, text))


@torch.no_grad()
def test_the_model_is_left_as_it_was():
    model, (text,) = shared("llama4"), token_ids(4, 3 * REACH)
    before = reference.logits(model, text)
    PrefixEngine(model).run(Pack((Tree(text[:REACH]),)), [0])
    assert torch.equal(reference.logits(model, text), before)


@pytest.mark.parametrize("prefix", [0, 30])
def test_a_longer_text_is_refused(prefix):
    engine, (text,) = PrefixEngine(shared("llama4")), token_ids(5, REACH + 1)
    pack = Pack((Tree(text[prefix:]),), engine.prefill(text[:prefix]))
    with pytest.raises(UserError, match=f"a text has {REACH + 1} tokens, but .* takes {REACH} at most"):
        engine.run(pack, [0])


def test_more_sequences_than_the_reach_are_generated_together():
    model, prompts = shared("llama4"), [[1 + i % 200, 7 + i % 5] for i in range(REACH + 9)]
    (answers,) = generate(PrefixEngine(model), [Request(prompts, 3)], lambda ids: False, 10**6)
    for i in (0, REACH, REACH + 8):
        assert answers[i] == reference.greedy(model, prompts[i], 3)


def test_an_answer_that_grows_beyond_the_reach_is_refused():
    engine, (prompt,) = PrefixEngine(shared("llama4")), token_ids(6, REACH - 2)
    assert len(generate(engine, [Request([prompt], 3)], lambda ids: False, 10**6)[0][0]) == 3
    with pytest.raises(UserError, match=f"a text has {REACH + 1} tokens, but .* takes {REACH} at most"):
        generate(engine, [Request([prompt], 4)], lambda ids: False, 10**6)


def test_positions_that_a_model_does_not_have_are_refused():
    engine, (text,) = PrefixEngine(shared("gpt2")), token_ids(7, 513)
    engine.run(Pack((Tree(text[:512]),)), [0])
    with pytest.raises(UserError, match=r"a text has 513 tokens, but GPT2LMHeadModel takes 512 at most"):
        engine.run(Pack((Tree(text),)), [0])

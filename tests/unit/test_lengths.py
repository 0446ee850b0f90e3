"""Inputs that are too long lose their beginning: never the instruction, never the answer slot."""

from __future__ import annotations

import pandas as pd
import pytest

import tiny_models
from anamnesis.core.errors import UserError
from anamnesis.data.prompts import Template
from anamnesis.data.shortening import shorten_inputs, shorten_knowledge

TEXTS = ["short", "one two three " * 30 + "the end", "größer als alles — " * 14 + "Schluss", "x" * 300]


def task() -> pd.DataFrame:
    made = pd.DataFrame({"input": TEXTS, "knowledge_prompt": [None, *TEXTS[1:]]}, index=[7, 3, 5, 1])
    return made.assign(instruction="Say it.", example_id=[f"test-{i}" for i in range(len(TEXTS))])


@pytest.mark.parametrize("limit", [40, 64, 100])
def test_prompts_fit_and_keep_their_instruction_and_end(limit):
    tokenizer, before = tiny_models.tokenizer(), task()
    after, cut = shorten_inputs(before, tokenizer, Template(), limit)
    assert cut.tolist() == [False, True, True, True]
    for old, new in zip(before.itertuples(), after.itertuples(), strict=True):
        prompt = Template().render(new.instruction, [], new.input)
        count = len(tokenizer(prompt).input_ids)
        assert count <= limit
        assert not cut[old.Index] or count > limit - 6, "more was cut than had to be"
        assert old.input.endswith(new.input)
        assert prompt.startswith("Say it.\n\nInput:")
    assert before.equals(task()), "the task that was given must stay as it is"


def test_knowledge_prompts_lose_their_beginning_too():
    tokenizer = tiny_models.tokenizer()
    after, cut = shorten_knowledge(task(), tokenizer, 30)
    assert cut.tolist() == [False, True, True, True]
    assert after.knowledge_prompt.iloc[0] is None or pd.isna(after.knowledge_prompt.iloc[0])
    assert all(len(tokenizer(text).input_ids) <= 30 for text in after.knowledge_prompt.iloc[1:])
    assert after.knowledge_prompt.iloc[1].endswith("the end")


def test_an_instruction_without_room_for_an_input_is_refused():
    with pytest.raises(UserError, match="is 8 but the instruction of example test-0 alone takes"):
        shorten_inputs(task(), tiny_models.tokenizer(), Template(), 8)

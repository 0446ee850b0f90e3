"""Chat templates: a prompt as the one user turn of a conversation, in the form its model was trained on."""

from __future__ import annotations

from collections.abc import Mapping

from anamnesis.core.errors import UserError, first_line
from anamnesis.data.encoding import marked
from anamnesis.data.prompts import Template
from anamnesis.data.text import normal_form

PROMPT, ANSWER = "\0", "\1"  # stand for prompt and answer; no template writes them itself
DATE = "26 Jul 2024"
VARIABLES = {"enable_thinking": False, "date_string": DATE}
"""Variables of some templates: no train of thought before an answer, and the same date every day."""
TODAY = "{%- macro strftime_now(format) -%}" + DATE + "{%- endmacro -%}"
"""Replaces the function that some templates call for today's date."""


def template_for(prompts: Mapping, tokenizer) -> Template:
    """The prompts of the section ``prompts`` of the configuration.

    With ``chat_template`` the whole prompt is one user turn, without a system turn of ours, and ends with
    what the tokenizer's template writes before an answer. ``tokenizer`` None: as without. Raises UserError
    for a tokenizer without a chat template, or with one that cannot write such a turn.
    """
    words = {key: normal_form(value) for key, value in prompts.items() if key != "chat_template"}
    if tokenizer is None:
        return Template(**words)
    words = {key: marked(tokenizer, text) for key, text in words.items()}
    if not prompts.get("chat_template"):
        return Template(**words)
    if not getattr(tokenizer, "chat_template", None):
        raise UserError(
            "prompts.chat_template is true but the model's tokenizer has no chat template: set it to false, "
            "or take a model that was trained on conversations"
        )
    try:
        around = _around(tokenizer)
    except Exception as error:  # the template is a program of the model's authors
        raise UserError(
            f"prompts.chat_template is true but the model's template fails on a single user turn "
            f"({first_line(error)}): set it to false"
        ) from error
    return Template(**words, **around)


def _around(tokenizer) -> dict[str, str]:
    """The fields ``before``, ``after``, ``before_answer`` and ``end`` of a ``Template``: what it writes."""
    user = {"role": "user", "content": PROMPT}
    turns = [user, {"role": "assistant", "content": ANSWER}]
    how = {"tokenize": False, "chat_template": TODAY + tokenizer.get_chat_template(), **VARIABLES}
    prompt = tokenizer.apply_chat_template([user], add_generation_prompt=True, **how)
    whole = tokenizer.apply_chat_template(turns, **how)
    if prompt.count(PROMPT) != 1:
        raise ValueError(f"it writes the turn {prompt.count(PROMPT)} times")
    if not whole.startswith(prompt.rstrip(" ")) or whole.count(ANSWER) != 1:
        raise ValueError("before an answer it writes something else than in front of an answer that is there")
    before, after = prompt.split(PROMPT)
    answer = whole.index(ANSWER)
    between = whole[len(prompt) : answer]
    if between.strip():
        raise ValueError(f"it writes {between.strip()!r} into the answer")
    after += between
    stripped = after.rstrip(" ")  # the blanks go to the answer: tokenizers join a blank with the next word
    end = _first_special(tokenizer, whole[answer + 1 :])
    around = {"before": marked(tokenizer, before), "after": marked(tokenizer, stripped)}
    return around | {"before_answer": after[len(stripped) :], "end": end}


def _first_special(tokenizer, text: str) -> str:
    """The special token that a text begins with, blanks aside; empty without one."""
    special = (token.content for token in tokenizer.added_tokens_decoder.values() if token.special)
    return next((token for token in special if text.lstrip().startswith(token)), "")

"""Chat templates: a prompt as the one user turn of a conversation, in the form its model was trained on."""

from __future__ import annotations

from collections.abc import Mapping

from anamnesis.data.prompts import Template
from anamnesis.errors import UserError, first_line

ASKED, ANSWERED = "\0", "\1"  # stand for prompt and answer; no template writes them itself
SETTINGS = {"enable_thinking": False, "date_string": "26 Jul 2024"}
"""Variables that some templates know: no train of thought before an answer, and the same date every day."""


def template_for(prompts: Mapping, tokenizer) -> Template:
    """The prompts of the section ``prompts`` of the configuration.

    With ``chat_template`` the whole prompt is one user turn, without a system turn of ours, and ends with
    what the tokenizer's template writes before an answer. ``tokenizer`` None: as without. Raises UserError
    for a tokenizer without a chat template, or with one that cannot write such a turn.
    """
    words = {key: value for key, value in prompts.items() if key != "chat_template"}
    if not prompts.get("chat_template") or tokenizer is None:
        return Template(**words)
    if not getattr(tokenizer, "chat_template", None):
        raise UserError(
            "prompts.chat_template is true but the model's tokenizer has no chat template: set it to false, "
            "or take a model that was trained on conversations"
        )
    try:
        before, after, lead = _around(tokenizer)
    except Exception as error:  # the template is a program of the model's authors
        raise UserError(
            f"prompts.chat_template is true but the model's template fails on a single user turn "
            f"({first_line(error)}): set it to false"
        ) from error
    return Template(**words, before=before, after=after, lead=lead)


def _around(tokenizer) -> tuple[str, str, str]:
    """What stands before a prompt, between prompt and answer, and the blanks, if any, that an answer begins
    with.
    """
    asked = {"role": "user", "content": ASKED}
    turns = [asked, {"role": "assistant", "content": ANSWERED}]
    prompt = tokenizer.apply_chat_template([asked], tokenize=False, add_generation_prompt=True, **SETTINGS)
    whole = tokenizer.apply_chat_template(turns, tokenize=False, **SETTINGS)
    if prompt.count(ASKED) != 1:
        raise ValueError(f"it writes the turn {prompt.count(ASKED)} times")
    before, after = prompt.split(ASKED)
    lead = whole.removeprefix(prompt).split(ANSWERED)[0] if whole.startswith(prompt) else ""
    end = after.rstrip(" ")  # tokenizers join a blank with the word behind it
    return before, end, after[len(end) :] + (lead if lead.isspace() else "")

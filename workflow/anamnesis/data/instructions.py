"""Instructions for data files that hold none and are not in the catalogue: by task name, else by form.

The names are those of the public function-vector data sets; the sentences are the project's own.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

Form = Literal["open", "classes", "in_input", "options"]
"""open: free text; classes: every row has the same few choices; in_input: the choices are parts of the input;
options: each row has option texts of its own, shown under letters."""

ANSWER_WITH_LETTER = "Answer with the letter of the right option."

_BY_NAME = {
    "antonym": "Give the word with the opposite meaning.",
    "capitalize": "Write the word with a capital first letter.",
    "capitalize_first_letter": "Write the first letter of the word as a capital.",
    "capitalize_second_letter": "Write the second letter of the word as a capital.",
    "capitalize_last_letter": "Write the last letter of the word as a capital.",
    "commonsense_qa": "Answer the question with the letter of the right option.",
    "conll2003_location": "Copy the name of a place from the text.",
    "conll2003_organization": "Copy the name of an organization from the text.",
    "conll2003_person": "Copy the name of a person from the text.",
    "country-capital": "Name the capital city of the country.",
    "country-currency": "Name the currency of the country.",
    "english-german": "Translate the word into German.",
    "english-spanish": "Translate the word into Spanish.",
    "lowercase_first_letter": "Write the first letter of the word as a small letter.",
    "lowercase_last_letter": "Write the last letter of the word as a small letter.",
    "national_parks": "Name the state of the United States in which the park lies.",
    "next_capital_letter": "Write as a capital the letter after the word's first letter in the alphabet.",
    "park-country": "Name the country in which the park lies.",
    "person-instrument": "Name the instrument that the person plays.",
    "person-occupation": "Name the occupation of the person.",
    "present-past": "Write the verb in the simple past tense.",
    "singular-plural": "Write the plural of the noun.",
    "word_length": "Write the number of letters in the word.",
}

# Lists of words, one of which is the answer: the kind asked for, as in "animal_v_object_3".
_KIND_ASKED = {
    "adjective": "is an adjective",
    "verb": "is a verb",
    "animal": "names an animal",
    "color": "names a colour",
    "fruit": "names a fruit",
    "object": "names a physical object",
    "concept": "does not name a physical object",
}
_LIST_TASK = re.compile(
    rf"(?P<kind>{'|'.join(_KIND_ASKED)})_v_[a-z]+_\d+"
    r"|alphabetically_(?P<end>first|last)_\d+"
    r"|choose_(?P<place>first|middle|last)_of_\d+"
)

_OPTION_LETTER = re.compile(r"\(?[A-Za-z]\)?")


def default_instruction(name: str, form: Form, choices: Sequence[str] = ()) -> str:
    """The instruction of a data file without one.

    ``name`` is the task's name without folder; ``choices`` are the class names when ``form`` is "classes". A
    known name decides, then the form.
    """
    if name in _BY_NAME:
        return _BY_NAME[name]
    if match := _LIST_TASK.fullmatch(name):
        return _list_instruction(**match.groupdict())
    if form == "options" or (form == "classes" and all(map(_OPTION_LETTER.fullmatch, choices))):
        return "Answer the question with the letter of the right option."
    if form == "classes":
        return f"Classify the input as {', '.join(choices[:-1])} or {choices[-1]}."
    if form == "in_input":
        return "Choose the right item of the list."
    return "Write the right output for the input."


def _list_instruction(kind: str | None, end: str | None, place: str | None) -> str:
    if kind:
        return f"Choose the word that {_KIND_ASKED[kind]}."
    if end:
        return f"Choose the word that comes {end} in the alphabet."
    return f"Choose the {place} word of the list."


def complete_instruction(instruction: str, form: Form, choices: Sequence[str] = ()) -> str:
    """A file's own instruction, made to fit the prompt that is built from it.

    Where the options are shown under letters, it asks for the letter, unless it does already. Where it
    speaks of options but names no class, the class names follow it. Otherwise, and when empty, it stays as it
    is.
    """
    if instruction and form == "options" and "letter" not in instruction.lower():
        return f"{instruction} {ANSWER_WITH_LETTER}"
    if form == "classes" and "option" in instruction.lower() and not any(c in instruction for c in choices):
        return f"{instruction} Options: {', '.join(choices)}."
    return instruction

"""Text becomes tokens: the one way for prompts, and the one way for prompts with their answers.

A control token, such as the end of a turn, means more to a model than its letters do. A text holds one only
behind ``text.MARK``, which chat templates write and no data contain; what looks like one in data is text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from weakref import WeakKeyDictionary

from tokenizers import Tokenizer

from anamnesis.core.errors import UserError
from anamnesis.data.prompts import Template
from anamnesis.data.text import MARK, unmarked

BEFORE = ("\n", ".", "a", "1")  # what an answer that is encoded by itself stands behind: the first that fits


def encode(tokenizer, texts: Sequence[str]) -> list[list[int]]:
    """Token ids of texts that something is to follow.

    A tokenizer may put special tokens in front, except where a text begins with one, as those of chat
    templates do. What it appends, such as an end-of-text token, is removed: it would stand between prompt
    and answer.
    """
    texts, end = list(texts), tokenizer.eos_token_id
    known = _known(tokenizer)
    special = tuple(MARK + name for name in known.special)
    with_special = [text.startswith(MARK) and text.startswith(special) for text in texts]
    encoded = [ids[: max(1, len(ids) - known.appended)] for ids in token_ids(tokenizer, texts)]
    if any(with_special):
        bare = token_ids(tokenizer, texts, add_special_tokens=False)
        encoded = [bare[k] if begins else encoded[k] for k, begins in enumerate(with_special)]
    return [ids[:-1] if len(ids) > 1 and ids[-1] == end else ids for ids in encoded]


def encode_pairs(
    tokenizer, contexts: Sequence[str], continuations: Sequence[str]
) -> list[tuple[list[int], list[int]]]:
    """Token ids of each (context, continuation).

    The context's are those of :func:`encode`, which generation begins with. The continuation's are those that
    follow them in the whole text; where the tokenizer joins characters of both in one token, those of the
    continuation by itself. Raises UserError when a continuation gets no token.
    """
    texts = list(zip(contexts, continuations, strict=True))
    heads, wholes = encode(tokenizer, contexts), encode(tokenizer, [c + a for c, a in texts])
    pairs = []
    for k, (_, answer) in enumerate(texts):
        head, whole = heads[k], wholes[k]
        follows = whole[len(head) :] if whole[: len(head)] == head else _inside(tokenizer, answer)
        if not follows:
            raise UserError(
                f"the answer {answer!r} gets no token of its own after its prompt: check the task's targets"
            )
        pairs.append((head, follows))
    return pairs


def _inside(tokenizer, text: str) -> list[int]:
    """The ids of a text that does not begin a longer one: there a tokenizer may put a blank."""
    for before in BEFORE:
        head, whole = token_ids(tokenizer, [before, before + text], add_special_tokens=False)
        if whole[: len(head)] == head:
            return whole[len(head) :]
    return token_ids(tokenizer, [text], add_special_tokens=False)[0]


def end_token(tokenizer, template: Template) -> int | None:
    """The id of the token that ends an answer; None where the tokenizer has none."""
    return tokenizer.convert_tokens_to_ids(template.end) if template.end else tokenizer.eos_token_id


def token_ids(tokenizer, texts: Sequence[str], add_special_tokens: bool = True) -> list[list[int]]:
    """The ids of texts, with what the tokenizer puts around them or without."""
    if not tokenizer.is_fast:
        return [_piecewise(tokenizer, text, add_special_tokens) for text in texts]
    return [ids for ids, _ in _read(tokenizer, texts, add_special_tokens)]


def token_starts(tokenizer, text: str) -> list[int]:
    """Where in a text without marks each of its tokens begins, also those that the tokenizer adds. Where it
    does not tell, that may be anywhere.
    """
    if not tokenizer.is_fast:
        return list(range(len(text)))
    ((_, starts),) = _read(tokenizer, [text], True)
    return starts


# ---------------------------------------------------------------- control tokens


def control_tokens(tokenizer) -> dict[str, int]:
    """Name -> id of the control tokens: all special tokens, and those among the other added tokens that the
    chat template names. Words and blanks in it are none.
    """
    return _known(tokenizer).control


def marked(tokenizer, text: str) -> str:
    """A text of the tokenizer's authors, with its control tokens marked as such."""
    names = sorted(control_tokens(tokenizer), key=len, reverse=True)
    return re.sub("|".join(map(re.escape, names)), lambda name: MARK + name[0], text) if names else text


class _Known:
    """The tokens of a tokenizer in some ``state``: those that were ``added`` to its words (name -> id), those
    of them that it calls ``special``, its ``control`` tokens, and how many it has ``appended`` to each text.
    """

    def __init__(self, tokenizer, state: tuple):
        template, tokens = str(tokenizer.chat_template or ""), tokenizer.added_tokens_decoder
        self.state = state
        self.added = {token.content: i for i, token in tokens.items()}
        self.special = [token.content for token in tokens.values() if token.special]
        named = [name for name in self.added if name in template and re.search(r"[^\w\s]", name)]
        self.control = {name: self.added[name] for name in dict.fromkeys([*self.special, *named])}
        around = tokenizer("a").encodings[0].special_tokens_mask if tokenizer.is_fast else [0]
        self.appended = around[::-1].index(0) if 0 in around else 0  # tokens that it puts behind a text
        self._marking: tuple | None = None

    def marking(self, tokenizer) -> tuple[Tokenizer, dict[int, int]]:
        """(a tokenizer whose control tokens are those of this one behind ``MARK``, the id here of each added
        token there). Making it takes seconds.
        """
        if self._marking is None:
            reader = _with_marks(json.loads(tokenizer.backend_tokenizer.to_str()), self.control)
            names = {MARK * (name in self.control) + name: i for name, i in self.added.items()}
            self._marking = reader, {reader.token_to_id(name): i for name, i in names.items()}
        return self._marking


_all_known: WeakKeyDictionary = WeakKeyDictionary()  # asking a tokenizer for its tokens takes a while


def _known(tokenizer) -> _Known:
    state = len(tokenizer), str(tokenizer.chat_template), tuple(tokenizer.all_special_tokens)
    if tokenizer not in _all_known or _all_known[tokenizer].state != state:
        _all_known[tokenizer] = _Known(tokenizer, state)
    return _all_known[tokenizer]


def _with_marks(description: dict, control: dict[str, int]) -> Tokenizer:
    """The described tokenizer, with its control tokens behind ``MARK`` and nowhere else."""

    def name(token):
        return MARK + token if token in control else token

    model, kind = description["model"], description["model"].get("type")
    for token in description["added_tokens"]:
        if token["content"] in control:  # a normalizer might remove the mark
            token |= {"content": name(token["content"]), "normalized": False}
    # the words of BPE come from merges, which may spell a control token; others take any word they know
    if kind == "Unigram":
        model["vocab"] = [[name(piece), score] for piece, score in model["vocab"]]
    elif kind != "BPE":
        model["vocab"] = {name(word): i for word, i in model["vocab"].items()}
        model["unk_token"] = name(model["unk_token"])
    return Tokenizer.from_str(json.dumps(description | {"truncation": None, "padding": None}))


def _read(tokenizer, texts: Sequence[str], add_special_tokens: bool) -> list[tuple[list[int], list[int]]]:
    """(ids, where their texts begin) of each text."""
    known, texts, read = _known(tokenizer), list(texts), []
    plain = [unmarked(text) for text in texts]
    found = tokenizer(plain, add_special_tokens=add_special_tokens).encodings if texts else []
    control = set(known.control.values())
    for text, encoding in zip(texts, found, strict=True):
        original: dict[int, int] = {}
        inside = zip(encoding.ids, encoding.special_tokens_mask, strict=True)  # the mask: put around the text
        # two tokenizers are needed where data hold control tokens only
        if sum(i in control for i, around in inside if not around) != text.count(MARK):
            reader, original = known.marking(tokenizer)
            encoding = reader.encode(text, add_special_tokens=add_special_tokens)
        ids = [original.get(i, i) for i in encoding.ids]
        read.append((ids, [start for start, _ in encoding.offsets]))
    return read


def _piecewise(tokenizer, text: str, add_special_tokens: bool) -> list[int]:
    """The ids of a text from a tokenizer that is written in Python."""
    control, ids = control_tokens(tokenizer), []
    names = "|".join(re.escape(MARK + name) for name in sorted(control, key=len, reverse=True))
    for piece in re.split(f"({names})", text) if names else [text]:
        if piece.startswith(MARK):
            ids.append(control[unmarked(piece)])
        else:
            ids += tokenizer(piece, add_special_tokens=False, split_special_tokens=True).input_ids
    return tokenizer.build_inputs_with_special_tokens(ids) if add_special_tokens else ids

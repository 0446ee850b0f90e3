"""The engine as a model of lm-evaluation-harness.

How a text becomes tokens, where a context ends, what is cut from the left and how a text is rolled through
windows is inherited from the harness's own class for models of transformers, so that it is the same there and
here. Only the forward passes are the engine's.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lm_eval.models.huggingface import HFLM
from lm_eval.models.utils import handle_stop_sequences, normalize_gen_kwargs, postprocess_generated_text

from anamnesis.core.errors import UserError, show_value
from anamnesis.engine.generation import Request, generate
from anamnesis.engine.pairs import groups_by_prefix, score_pairs
from anamnesis.engine.prefix_engine import PrefixEngine

AT_ONCE = sys.maxsize  # of the harness's batches: the engine makes its own
OF_SAMPLING = ("do_sample", "temperature", "top_p", "top_k", "min_p")
"""What greedy decoding does not look at."""


class EngineLM(HFLM):
    """Answers all request types of the harness on text: ``loglikelihood``, ``loglikelihood_rolling`` and
    greedy ``generate_until``.

    Contexts that begin alike share their prefix, and the choices of a question its context. ``batch_tokens``
    bounds the tokens of a forward pass; no answer depends on it. ``max_length`` is the harness's, or what the
    engine reaches where that is less. A model's own generation settings (repetition penalties) are not
    applied. Raises UserError for sampling, and other settings of generation than a bound and stops.
    """

    def __init__(self, engine: PrefixEngine, tokenizer, batch_tokens: int = 2048):
        log = logging.getLogger("lm_eval.models.huggingface")
        level = log.level
        log.setLevel(logging.ERROR)  # it warns that the model is loaded already
        try:
            super().__init__(
                pretrained=engine.model, tokenizer=tokenizer, backend="causal", batch_size=AT_ONCE
            )
        finally:
            log.setLevel(level)
        self.engine, self.batch_tokens = engine, batch_tokens

    @property
    def max_length(self) -> int:
        reach = self.engine.geometry.reach
        return min(super().max_length, reach.tokens) if reach else super().max_length

    def loglikelihood(self, requests, disable_tqdm: bool = True) -> list[tuple[float, bool]]:
        return super().loglikelihood(requests, disable_tqdm=disable_tqdm)

    def loglikelihood_rolling(self, requests, disable_tqdm: bool = True) -> list[float]:
        return super().loglikelihood_rolling(requests, disable_tqdm=disable_tqdm)

    def _loglikelihood_tokens(
        self, requests, disable_tqdm: bool = False, override_bs: int | None = None
    ) -> list[tuple[float, bool]]:
        """``requests``: (texts or None, context, continuation), token ids."""
        pairs = [self._fitted(context, continuation) for _, context, continuation in requests]
        answers = score_pairs(self.engine, pairs, self.batch_tokens)
        for (texts, *_), answer in zip(requests, answers, strict=True):
            if texts is not None:  # of a window of a longer text there are none
                self.cache_hook.add_partial("loglikelihood", texts, answer)
        return answers

    def _fitted(self, context: Sequence[int], continuation: Sequence[int]) -> tuple[list[int], list[int]]:
        """The pair without the first tokens of a context that is too long; the last token is not run."""
        if not 0 < len(continuation) <= self.max_length:
            raise UserError(
                f"a continuation has {len(continuation)} tokens: this model takes 1 to {self.max_length}; "
                "take another task or shorten its answers"
            )
        whole = [*context, *continuation][-(self.max_length + 1) :]
        return whole[: -len(continuation)], list(continuation)

    def generate_until(self, requests, disable_tqdm: bool = False) -> list[str]:
        answers: list[str] = [""] * len(requests)
        same: dict[str, list[int]] = {}  # requests with equal settings
        for i, request in enumerate(requests):
            same.setdefault(json.dumps(request.args[1], sort_keys=True), []).append(i)
        for places in same.values():
            contexts = [requests[i].args[0] for i in places]
            for i, text in zip(places, self._generated(contexts, requests[places[0]].args[1]), strict=True):
                answers[i] = text
                self.cache_hook.add_partial("generate_until", requests[i].args, text)
        return answers

    def _generated(self, contexts: Sequence[str], settings: Mapping) -> list[str]:
        """The continuations of texts under equal settings of generation."""
        given = greedy_settings(settings, self.max_gen_toks)
        end = self.tok_decode(self.eot_token_id, skip_special_tokens=False)
        until, longest = handle_stop_sequences(given["until"], eos=end), given["max_gen_toks"]
        room = self.max_length - longest
        if room <= 0:
            raise UserError(
                f"max_gen_toks = {longest}: this model takes {self.max_length} tokens, prompt and answer "
                "together; take another task"
            )
        prompts = [self._prompt(context, room) for context in contexts]
        groups = groups_by_prefix(prompts)
        asked = [Request([prompts[i] for i in group], longest) for group in groups]
        found = generate(self.engine, asked, self._stop(until), self.batch_tokens)
        texts: list[str] = [""] * len(contexts)
        for group, answers in zip(groups, found, strict=True):
            for i, ids in zip(group, answers, strict=True):
                texts[i] = postprocess_generated_text(self.tok_decode(ids), until, None)
        return texts

    def _prompt(self, context: str, longest: int) -> list[int]:
        """Token ids, without the first ones of a context that is too long."""
        ids, _ = self.tok_batch_encode([context], left_truncate_len=longest)
        return ids[0].tolist() or [self.prefix_token_id]

    def _stop(self, until: Sequence[str]) -> Callable[[list[int]], bool]:
        """Whether an answer has ended: at a token that ends texts, or where one of ``until`` is complete."""
        settings = getattr(self.model, "generation_config", None) or self.model.config
        ends = settings.eos_token_id
        ends = {*ends} if isinstance(ends, list | tuple) else {ends}
        # two more tokens than a stop takes by itself, as it may be written with others
        longest = 2 + max(len(self.tokenizer.encode(text, add_special_tokens=False)) for text in until)

        def stop(ids: list[int]) -> bool:
            if ids[-1] in ends:
                return True
            written = self.tokenizer.decode(ids[-longest:])
            return any(text in written for text in until)

        return stop


def greedy_settings(settings: Mapping, longest: int = 256) -> dict[str, Any]:
    """Settings of generation in the harness's normal form, with ``until`` and ``max_gen_toks`` (``longest``
    where there is none). Raises UserError for those that ask for more than greedy decoding.
    """
    given = dict(normalize_gen_kwargs(dict(settings), longest))
    if given.get("do_sample"):
        raise UserError(
            "evaluation.harness: a task asks for sampling (do_sample, or a temperature above 0): answers are "
            "greedy here; take another task, or set temperature to 0 in its generation_kwargs"
        )
    for name, value in given.items():
        if name not in ("until", "max_gen_toks", *OF_SAMPLING):
            raise UserError(
                f"evaluation.harness: a task's generation_kwargs.{name} = {show_value(value)}: answers are "
                "greedy here, with until and max_gen_toks; take another task, or remove that key"
            )
    return given

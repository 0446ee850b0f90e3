"""Models that write blanks or line breaks before their answer, or nothing else."""

from __future__ import annotations

import logging
import runpy

import pandas as pd
import pytest
from tokenizers import Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast

import reference
import tiny_models
from anamnesis.core.artifacts import write_parquet
from anamnesis.data.prompts import Template
from anamnesis.engine.generation import Request, generate
from anamnesis.engine.line_end import LineEnd
from anamnesis.engine.prefix_engine import PrefixEngine
from anamnesis.evaluation import records
from anamnesis.evaluation.metrics import Answer, score
from anamnesis.evaluation.records import EvaluationSet, Evaluator, empty_shares
from runs import ROOT

PROMPTS = [[41, 17, *rest] for rest in tiny_models.token_ids(3, 9, 5, 12, 4, 7)]
WRITTEN = [
    "\n", "\n\n", " \n \n", "\r\n", "\t\n", "\u3000\n", "\r", "\ufeff\n", "\u200b\n", "\u200f\n\r\n",
]  # fmt: skip


# ---------------------------------------------------------------- one answer


@pytest.mark.parametrize("before", ["", " ", *WRITTEN])
@pytest.mark.parametrize("after", ["\n", "\n\nInput: big", " \nOutput", "\r\nOutput", "\rOutput"])
def test_blanks_and_line_breaks_before_an_answer_are_skipped(before, after):
    tokenizer = tiny_models.tokenizer()
    stop, ids = LineEnd(tokenizer), tokenizer(f"{before}cold{after}").input_ids
    cut = next(i for i in range(1, len(ids) + 1) if stop(ids[:i]))
    assert stop.text(ids[:cut]) == "cold"
    assert tokenizer.decode(ids[:cut]).rstrip("\r\n ") == f"{before}cold"  # no later than the break behind it
    answer = Answer(stop.whole(ids[:cut]), "cold")
    assert (answer.line, score("exact_match", answer), score("rouge_l", answer)) == ("cold", 1, 1)


@pytest.mark.parametrize("before", WRITTEN)
def test_nothing_but_blanks_does_not_stop_and_is_empty(before):
    tokenizer = tiny_models.tokenizer()
    stop, ids = LineEnd(tokenizer), tokenizer(before * 3).input_ids
    assert not any(stop(ids[:i]) for i in range(1, len(ids) + 1))
    assert stop.text(ids) == Answer(stop.whole(ids), "cold").line == ""
    assert stop([*ids, tokenizer.eos_token_id])


# ---------------------------------------------------------------- generation


def reading(spoken: dict[int, str]) -> PreTrainedTokenizerFast:
    """A tokenizer in which some ids are these texts, and all others a word each."""
    vocabulary = {f"w{i} ": i for i in range(1, tiny_models.VOCABULARY) if i not in spoken}
    vocabulary |= {"<end>": tiny_models.END} | {text: i for i, text in spoken.items()}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<end>"))
    backend.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<end>")


def spoken_by(model) -> dict[int, str]:
    """Texts of the tokens that the model writes, such that answers begin with a break, two, or none."""
    free = [reference.greedy(model, prompt, 8) for prompt in PROMPTS]
    texts: dict[int, str] = {}
    for token, text in ((free[0][0], "\n"), (free[1][0], " \n"), (free[2][3], "end\n"), (free[3][2], "\n\n")):
        texts.setdefault(token, text)
    return texts


@pytest.mark.parametrize("name", ["llama", "gemma3", "gpt2"])
@pytest.mark.parametrize("budget", [1, 20, 10**6])
def test_batches_give_the_answers_of_each_prompt_alone(name, budget):
    model = tiny_models.shared(name)
    tokenizer = reading(spoken_by(model))
    stop, plain = LineEnd(tokenizer), []
    for prompt in PROMPTS:
        ids = reference.greedy(model, prompt, 8)
        whole = [tokenizer.decode(ids[:i]).lstrip() for i in range(1, 9)]
        ends = [i for i, text in enumerate(whole, 1) if "\n" in text or tiny_models.END in ids[:i]]
        plain.append(ids[: min([*ends, 8])])
    (found,) = generate(PrefixEngine(model), [Request(PROMPTS, 8)], stop, budget)
    assert found == plain
    begun = [tokenizer.decode(ids[:1]) for ids in found]
    assert any("\n" in text for text in begun)
    assert not all("\n" in text for text in begun)
    assert all(stop.text(ids) for ids, text in zip(found, begun, strict=True) if "\n" in text)


def test_skipped_tokens_count_towards_the_length():
    model = tiny_models.shared("llama")
    stop = LineEnd(reading(spoken_by(model)))
    for length in (1, 2, 3):
        (found,) = generate(PrefixEngine(model), [Request(PROMPTS, length)], stop, 10**6)
        assert max(map(len, found)) == length
        assert len(found[0]) == length  # its first token is a line break
    assert stop.text(found[0][:1]) == ""


# ---------------------------------------------------------------- records


def task(name: str = "opposites", choices=None) -> pd.DataFrame:
    rows = [
        (split, f"{split}-{i}", f"{split} thing {i}", "cold")
        for split, n in (("train", 4), ("validation", 2), ("test", 8))
        for i in range(n)
    ]
    frame = pd.DataFrame(rows, columns=["split", "example_id", "input", "target"])
    label = None if choices is None else 0
    filler = {"knowledge_prompt": None, "knowledge_target": None, "knowledge_choices": None}
    frame = frame.assign(instruction="Say it.", label=label, **filler)
    frame["choices"] = [choices for _ in rows]
    return frame


@pytest.fixture
def writing(monkeypatch):
    """A model that writes these texts in turn in answer to the questions of each request."""

    def written(*texts: str) -> None:
        def fake(engine, requests, stop, budget, progress=lambda done: None):
            tokenizer = tiny_models.tokenizer()
            answers = [tokenizer(text).input_ids for text in texts]
            return [[answers[i % len(answers)] for i in range(len(r.prompts))] for r in requests]

        monkeypatch.setattr(records, "generate", fake)

    return written


def evaluated(*sets: EvaluationSet) -> pd.DataFrame:
    engine = PrefixEngine(tiny_models.shared("llama"))
    return Evaluator(engine, tiny_models.tokenizer(), Template(), 2, ["instruction"], 512, 0).evaluate(sets)


def test_empty_answers_are_a_column_a_share_and_a_warning(writing, caplog):
    writing("\n cold\n", "\n\n", " cold", "<end>")
    ranked = EvaluationSet("ranked", "held_out", task(choices=["cold", "hot"]), 4)
    with caplog.at_level(logging.WARNING, "anamnesis"):
        table = evaluated(EvaluationSet("opposites", "held_out", task(), 4), ranked)
    rows = table[table["set"] == "opposites"]
    assert rows.prediction.tolist() == ["cold", "", "cold", ""] * 4
    assert rows.score.tolist() == [1, 0, 1, 0] * 4
    assert rows["empty"].tolist() == [False, True] * 8
    assert not table.loc[table["set"] == "ranked", "empty"].any()
    assert table["empty"].dtype == bool
    assert empty_shares(table) == {"opposites": 0.5}
    assert [r.getMessage().split(":")[0] for r in caplog.records] == [
        "set 'opposites' (instruction form, 0-shot)",
        "set 'opposites' (instruction form, 2-shot)",
    ]
    assert "50 % of 8 generated answers are empty" in caplog.text


@pytest.mark.parametrize(("texts", "warned"), [(["cold"] * 7 + ["\n"], True), (["cold", "\nhot"], False)])
def test_a_few_empty_answers_are_no_reason_to_warn(writing, caplog, texts, warned):
    writing(*texts)
    evaluated(EvaluationSet("opposites", "held_out", task(), 4))
    assert ("'opposites'" in caplog.text) == warned  # 12 % of eight, or none


def test_benchmarks_of_raw_text_see_what_was_generated(writing):
    writing("\ncold", "cold")
    table = evaluated(EvaluationSet("opposites", "held_out", task(), 4, "exact_string"))
    assert table.score.tolist() == [0, 1] * 8
    assert set(table.prediction) == {"cold"}


def test_the_record_of_an_evaluation_has_the_share(tmp_path, snapshot, writing):
    writing("\ncold", "\n", "cold", "hot")
    write_parquet(tmp_path / "opposites.parquet", task())
    main = runpy.run_path(str(ROOT / "workflow/scripts/evaluate_stage.py"))["main"]
    words = {"input_label": "Input:", "output_label": "Output:", "separator": "\n\n", "chat_template": False}
    settings = {
        "shots": 2, "forms": ["instruction"], "scorer": "sum", "demonstration_draws": 1, "few_shot": "all",
        "split": "test",
    }  # fmt: skip
    record = main(
        str(snapshot),
        [str(tmp_path / "opposites.parquet")],
        {"opposites": "held_out"},
        {"dtype": "float32", "device": "cpu", "gpus": 1},
        settings,
        {"opposites": 4},
        {"opposites": None},
        512,
        words,
        0,
        512,
        str(tmp_path / "evaluation.parquet"),
    )
    assert record["empty_answers"] == {"opposites": 0.25}
    assert pd.read_parquet(tmp_path / "evaluation.parquet")["empty"].mean() == 0.25

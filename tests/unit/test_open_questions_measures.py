"""Other wordings and vectors of more heads, against the evaluation and one plain pass per prompt."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

import reference
from anamnesis.analyses.checkpoints import sufficiency as measured
from anamnesis.analyses.checkpoints.measure import Plan
from anamnesis.analyses.checkpoints.wordings import wording_scores
from anamnesis.analyses.questions import SetQuestions
from anamnesis.config.analysed import paraphrased
from anamnesis.config.load import load_config
from anamnesis.core.errors import UserError
from anamnesis.data.builtin import BUILTIN, SENTIMENTS, TOPICS
from anamnesis.data.paraphrases import builtin_paraphrases
from anamnesis.data.prompts import Template
from anamnesis.engine.heads import find_heads
from anamnesis.engine.prefix_engine import PrefixEngine
from anamnesis.engine.scoring import Question
from anamnesis.evaluation.records import EvaluationSet, Evaluator
from tiny_models import shared, token_ids, tokenizer

SCORING = {"scorer": "sum", "max_input_tokens": 64}
PLAN = Plan([(0, 0)], [0], False, 1, 1, "full", 3, 200)


def task(choices: bool) -> pd.DataFrame:
    rows = [
        (
            split,
            f"{split}-{i}",
            "Say it twice.",
            f"{split} {i}",
            f"{i}{i}",
            ["00", "11", "22"] if choices else None,
        )
        for split in ("train", "validation", "test")
        for i in range(3)
    ]
    frame = pd.DataFrame(rows, columns=["split", "example_id", "instruction", "input", "target", "choices"])
    return frame.assign(label=None, knowledge_prompt=None)


def test_every_wording_is_scored_as_the_evaluation_scores_it():
    about = {"role": "held_out", "max_new_tokens": 3, "metric": "accuracy"}
    frames = {"ranked": task(True), "written": task(False), "bare": task(True)}
    others = {"ranked": ["Double it.", "Once more."], "written": ["Repeat."], "bare": []}
    wording = {
        "sets": [{"name": name, **about} for name in frames], "paraphrases": others, "scoring": SCORING,
    }  # fmt: skip
    engine = PrefixEngine(shared("llama"))
    found = wording_scores(engine, tokenizer(), frames.values(), wording, PLAN, Template(), 2, 4)
    evaluator = Evaluator(engine, tokenizer(), Template(), 2, ["instruction"], 200, 3, **SCORING)
    seen = []
    for name in ("ranked", "written"):
        for number, words in enumerate(["Say it twice.", *others[name]]):
            asked = EvaluationSet(name, frame=frames[name].assign(instruction=words), **about)
            expected = evaluator.evaluate([asked]).groupby("shots").head(2)  # half of the examples asked for
            part = found[(found.set == name) & (found.wording == number)]
            assert set(part.instruction) == {words}
            columns = ["shots", "example_id", "score"]
            assert part[columns].to_numpy().tolist() == expected[columns].to_numpy().tolist()
            seen.append(part)
    assert len(found) == sum(map(len, seen))
    none = {**wording, "paraphrases": {}}
    assert wording_scores(engine, tokenizer(), frames.values(), none, PLAN, Template(), 2, 4).empty


def test_vectors_of_more_heads_equal_one_pass_per_prompt(monkeypatch):
    monkeypatch.setattr(measured, "NEXT", (2, 5, 50))  # the model has 12 heads
    monkeypatch.setattr(measured, "DRAWS", 2)
    model, prompts = shared("llama"), token_ids(2, 9, 4, 12, 6)
    said = [reference.greedy(model, prompt, 2) for prompt in prompts]
    said[1] = [said[1][0] % 300 + 1, said[1][1]]
    asked = [Question(prompt, [answer]) for prompt, answer in zip(prompts, said, strict=True)]
    questions = SetQuestions(asked, asked[::-1], asked, asked)
    drawn = torch.randn(3, 4, find_heads(model).hidden_size, generator=torch.Generator().manual_seed(4))
    vectors, selected = 1.5 * drawn, [(2, 1), (0, 3)]
    ranking = pd.DataFrame(
        [(10 * layer + head, layer, head) for layer in range(3) for head in range(4)],
        columns=["rank", "layer", "head"],
    ).sample(frac=1, random_state=0)
    others = measured.ranked_outside(ranking, selected)
    assert others[:5] == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)]
    engine, rng = PrefixEngine(model), np.random.default_rng(0)
    found = measured.sufficiency(engine, questions, vectors, selected, others, 1, [2, 0, 1], rng, 60)

    def right(vector, layer) -> list[bool]:
        hits = []
        for question in asked:
            with reference.shifted_residual(model, layer, len(question.context) - 1, vector):
                hits.append(reference.continuation(model, question.context, question.continuations[0])[1])
        return hits

    for more in (0, 2, 5):
        part = found[(found.condition == "theta") & (found.more == more)]
        theta = sum(vectors[place] for place in [*selected, *others[:more]])
        by_layer = {layer: right(theta, layer) for layer in ((1, 2, 0) if more else (1,))}
        best = max(by_layer, key=lambda layer: sum(by_layer[layer]))  # ties: the first asked for
        assert set(part.layer) == {best}
        assert part.right.tolist() == [float(hit) for hit in by_layer[best]]
        assert set(part.heads) == {2 + more}
    assert found[found.condition == "zero-shot"].right.tolist() == [1, 0, 1, 1]
    assert found[found.condition == "few-shot"].right.tolist() == [1, 1, 0, 1]
    random = found[found.condition == "random"]
    assert set(random.more) == {2, 5}
    assert set(random.right) <= {0.0, 0.5, 1.0}
    assert found.groupby(["condition", "more"]).size().unique().tolist() == [len(prompts)]


def test_all_heads_are_the_same_at_random():
    """With every head left in both, ranked and random vectors are one."""
    model, prompts = shared("llama"), token_ids(3, 5, 4)
    asked = [Question(p, [reference.greedy(model, p, 1)]) for p in prompts]
    vectors = torch.randn(3, 4, find_heads(model).hidden_size, generator=torch.Generator().manual_seed(1))
    selected, places = [(0, 0), (1, 1)], [(layer, head) for layer in range(3) for head in range(4)]
    others = [place for place in places if place not in selected]
    found = measured.sufficiency(
        PrefixEngine(model), SetQuestions(asked, asked, asked, asked), 3 * vectors, selected, others, 0, [2],
        np.random.default_rng(0), 60,
    ).set_index(["condition", "more"]).right  # fmt: skip
    assert found["theta", 10].tolist() == found["random", 10].tolist()


def test_built_in_tasks_have_five_other_wordings_each():
    found = builtin_paraphrases()
    assert set(found) == set(BUILTIN)
    for name, words in found.items():
        assert len(words) >= 5
        assert len({w.lower() for w in (*words, BUILTIN[name].instruction)}) == len(words) + 1
        assert all(w == w.strip() and w[0].isupper() and w[-1] in ".?!" for w in words)
    for name, labels in {"news_topic": TOPICS, "sentiment": SENTIMENTS, "capital_choice": "ABCD",
                         "general_facts": "ABCD", "opposite_choice": "ABCD"}.items():  # fmt: skip
        for words in found[name]:
            assert all(label in words for label in labels)
    spanish = [name for name in found if name.endswith("spanish")]
    assert all("Spanish" in words for name in spanish for words in found[name])


def config(**analyses):
    return {
        "suite": {"name": "s", "orders": [["news_topic", "plural"]], "held_out": ["antonym", "mine"]},
        "data": {"tasks": {"mine": {"path": "mine.csv", "instruction": "Do it."}}},
        "interventions": {"sets": ["antonym", "news_topic"]},
        "analyses": analyses,
    }


def test_paraphrases_are_those_of_the_task_or_of_the_configuration():
    known = (*BUILTIN, "mine")
    builtin = builtin_paraphrases()
    expected = {"antonym": builtin["antonym"], "news_topic": builtin["news_topic"]}
    assert paraphrased(load_config(config(), known)) == expected
    own = {"mine": ["Go on."], "antonym": ["Reverse it."]}
    found = paraphrased(load_config(config(paraphrases=own), known))
    assert found == {**expected, "mine": ("Go on.",), "antonym": ("Reverse it.",)}
    with pytest.raises(UserError, match=r"analyses\.paraphrases: unknown set 'sentiment'"):
        load_config(config(paraphrases={"sentiment": ["Well?"]}), known)
    with pytest.raises(UserError, match=r"analyses\.paraphrases\.mine"):
        load_config(config(paraphrases={"mine": []}), known)

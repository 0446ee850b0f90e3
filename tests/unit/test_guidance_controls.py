"""What is added in guided training, and the controls, each against a few lines of plain arithmetic."""

from __future__ import annotations

import pandas as pd
import pytest
import torch

import reference
import tiny_models
from anamnesis.core.artifacts import write_parquet, write_tensors
from anamnesis.core.errors import UserError
from anamnesis.core.processes import run_together
from anamnesis.data.prompts import generator
from anamnesis.engine.heads import find_heads
from anamnesis.engine.prefix_engine import PrefixEngine
from anamnesis.models.adapters import add_lora
from anamnesis.training.controls import random_vectors
from anamnesis.training.guidance import guided_additions, norm
from anamnesis.training.guidance_settings import control_tasks
from anamnesis.training.stage import Stage
from parallel_stages import written_by_heads

SELECTED = [(0, 1), (2, 0), (2, 3)]
SETTINGS = {"heads": 3, "vectors_from": "initial", "control": "none"}
# heads wider than their share of the hidden size, one key head, a transposed and a biased projection
SHAPES = ("llama", "qwen3", "gemma3", "gpt2", "neox", "deepseek")


class Files:
    """(ranking, mean activations) of a tiny model, three of its heads selected; the means of three tasks, of
    which its own is the second.
    """

    def __init__(self, folder, name: str):
        self.model = tiny_models.shared(name)
        geometry = find_heads(self.model)
        heads = [(layer, head) for layer in range(geometry.n_layers) for head in range(geometry.n_heads)]
        order = [*SELECTED, *(h for h in heads if h not in SELECTED)]
        self.heads, chosen = str(folder / "heads.parquet"), [h in SELECTED for h in order]
        table = pd.DataFrame(order, columns=["layer", "head"])
        write_parquet(self.heads, table.assign(rank=range(1, len(order) + 1), selected=chosen))
        noise = torch.Generator().manual_seed(5)
        shape = (3, geometry.n_layers, geometry.n_heads, geometry.head_dim)
        # heads of different lengths
        self.means = torch.randn(shape, generator=noise) * torch.arange(1, 1 + shape[2])[:, None]
        self.mean, self.paths = self.means[1], [str(folder / f"{k}.safetensors") for k in range(3)]
        ones = torch.ones(geometry.n_layers, geometry.hidden_size)  # norms behind W_O: test_writing.py
        self.scale = ones if geometry.writing.normed else None
        scaled = {"scale": ones} if geometry.writing.normed else {}
        for path, mean in zip(self.paths, self.means, strict=True):
            write_tensors(path, {"mean": mean} | scaled)


@pytest.fixture
def files(tmp_path) -> Files:
    return Files(tmp_path, "llama")


def added(files: Files, number=1, seed=1, chain_seed=7, task="verbs", model=None, means=(), **changes):
    engine = PrefixEngine(model or files.model)
    stage = Stage(
        engine, None, number, [], {}, {}, seed=seed, batch_tokens=64, chain_seed=chain_seed, task=task
    )
    return guided_additions(stage, SETTINGS | changes, files.heads, files.paths[1], None, means)


def heads_in(found) -> set[tuple[int, int]]:
    return {(layer, int(h)) for layer, x in found.items() for h in x.abs().sum(-1).nonzero()[:, 0]}


def residual(model, layer: int, head: int, vector: torch.Tensor) -> torch.Tensor:
    """What the projection makes of a row that is zero but for one head, without its bias."""
    projection = reference.projections(model)[layer]
    row = torch.zeros(find_heads(model).n_heads, len(vector))
    with torch.no_grad():
        nothing = projection(row.flatten()[None])
        row[head] = vector
        return (projection(row.flatten()[None]) - nothing)[0]


def test_the_mean_outputs_of_the_selected_heads_are_added(files):
    found = added(files)
    assert heads_in(found) == set(SELECTED)
    for layer, head in SELECTED:
        torch.testing.assert_close(found[layer][head], files.mean[layer, head])


def test_the_model_at_hand_gives_its_own_mean_outputs_on_its_clean_prompts(files, tmp_path):
    """One plain forward pass for each prompt; shuffled prompts do not count."""
    tokenizer, texts = tiny_models.tokenizer(), ["hot cold up", "big small", "one two three four five", "up"]
    kinds = ["clean", "shuffled", "clean", "clean"]
    table = pd.DataFrame(
        {"text": texts, "kind": kinds, "before_answer": " ", "target": "down", "choices": None}
    )
    write_parquet(tmp_path / "prompts.parquet", table)
    engine = PrefixEngine(files.model)
    stage = Stage(engine, tokenizer, 1, [], {}, {}, seed=1, batch_tokens=64, chain_seed=7, task="verbs")
    settings = SETTINGS | {"vectors_from": "current"}
    found = guided_additions(stage, settings, files.heads, files.paths[1], str(tmp_path / "prompts.parquet"))
    clean = [tokenizer(text).input_ids for text, kind in zip(texts, kinds, strict=True) if kind == "clean"]
    expected = torch.stack([reference.head_outputs(files.model, prompt) for prompt in clean]).mean(0)
    assert heads_in(found) == set(SELECTED)
    for layer, head in SELECTED:
        torch.testing.assert_close(found[layer][head], expected[layer, head], atol=1e-5, rtol=1e-4)


def test_a_table_without_a_column_is_named(files, tmp_path):
    prompts = tmp_path / "prompts.parquet"
    write_parquet(prompts, pd.DataFrame({"text": ["up"], "kind": "clean", "target": "down"}))
    stage = Stage(PrefixEngine(files.model), tiny_models.tokenizer(), 1, [], {}, {}, 1, 64)
    settings = SETTINGS | {"vectors_from": "current"}
    with pytest.raises(UserError, match=r"prompts\.parquet lacks the column before_answer"):
        guided_additions(stage, settings, files.heads, files.paths[1], str(prompts))
    write_parquet(files.heads, pd.read_parquet(files.heads).drop(columns="selected"))
    with pytest.raises(UserError, match=r"heads\.parquet lacks the column selected"):
        added(files)


@pytest.mark.parametrize("name", SHAPES)
def test_the_norm_is_that_of_what_the_residual_stream_gets_from_each_head(tmp_path, name):
    files = Files(tmp_path, name)
    squares = sum(residual(files.model, *h, files.mean[h]).square().sum() for h in SELECTED)
    assert norm(find_heads(files.model), added(files), files.scale) == pytest.approx(
        squares.sqrt().item(), rel=1e-5
    )


def test_random_heads_are_others_each_with_its_own_mean(files):
    found = added(files, control="random_heads")
    assert len(heads_in(found)) == len(SELECTED)
    assert not heads_in(found) & set(SELECTED)
    for layer, head in heads_in(found):
        torch.testing.assert_close(found[layer][head], files.mean[layer, head])


@pytest.mark.parametrize("name", SHAPES)
def test_random_vectors_change_the_residual_stream_by_as_much_and_point_elsewhere(tmp_path, name):
    files = Files(tmp_path, name)
    found = added(files, control="random_vectors")
    assert heads_in(found) == set(SELECTED)
    for layer, head in SELECTED:
        real, drawn = files.mean[layer, head], found[layer][head]
        own, random = (residual(files.model, layer, head, vector) for vector in (real, drawn))
        assert random.norm().item() == pytest.approx(own.norm().item(), rel=1e-5)
        assert abs(drawn.norm().item() / real.norm().item() - 1) > 1e-3  # equal before W_O would not do
        assert torch.cosine_similarity(drawn, real, dim=0).abs() < 0.99
    geometry = find_heads(files.model)
    assert norm(geometry, found, files.scale) == pytest.approx(
        norm(geometry, added(files), files.scale), rel=1e-5
    )


def test_the_norm_is_that_of_the_model_at_hand(files):
    """An adapter of the output projection belongs to it."""
    lora = {"rank": 2, "alpha": 8, "dropout": 0.0, "target_modules": ["o_proj"]}
    model = add_lora(tiny_models.build("llama"), lora, 1)
    with torch.no_grad():
        for parameter in (p for p in model.parameters() if p.requires_grad):
            parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3)))
    found = added(files, model=model, control="random_vectors")
    for layer, head in SELECTED:
        own, random = (residual(model, layer, head, x) for x in (files.mean[layer, head], found[layer][head]))
        assert random.norm().item() == pytest.approx(own.norm().item(), rel=1e-5)


def test_a_head_that_writes_nothing_gets_nothing_to_write(files):
    model = tiny_models.build("llama")
    with torch.no_grad():
        model.model.layers[0].self_attn.o_proj.weight.zero_()
    assert all(torch.isfinite(x).all() for x in added(files, model=model, control="random_vectors").values())


def test_processes_that_divide_a_model_draw_the_same_vectors_as_one():
    alone = written_by_heads(divided=False)
    assert run_together(2, written_by_heads, {"divided": True}) == pytest.approx(alone, rel=1e-5)


def test_random_heads_are_drawn_once_for_a_chain(files):
    first = added(files, 1, seed=1, control="random_heads")
    later = added(files, 2, seed=99, task="nouns", control="random_heads")
    assert all(torch.equal(first[layer], later[layer]) for layer in first)
    others = [added(files, chain_seed=s, control="random_heads") for s in range(8, 12)]
    assert any(heads_in(other) != heads_in(first) for other in others)


def test_random_vectors_are_drawn_once_for_each_task_of_a_chain(files):
    first = added(files, control="random_vectors")
    again = added(files, 2, seed=99, control="random_vectors")  # the task at another place of the chain
    assert all(torch.equal(first[layer], again[layer]) for layer in first)
    # the seed is one of 2^31 that follow from those of chain and task and from the purpose
    seed = int(generator(7, "verbs", "random_vectors").integers(2**31))
    drawn = torch.Generator().manual_seed(seed)
    expected = random_vectors(find_heads(files.model), files.mean, SELECTED, drawn)
    for layer, head in SELECTED:
        assert torch.equal(first[layer][head], expected[layer, head])
    for changed in ({"task": "nouns"}, {"chain_seed": 8}):
        other = added(files, control="random_vectors", **changed)
        for layer, head in SELECTED:
            assert torch.cosine_similarity(first[layer][head], other[layer][head], dim=0).abs() < 0.99


@pytest.mark.parametrize(
    ("control", "tasks", "expected"),
    [
        ("other_task", [2], lambda means: means[2]),
        ("shared", [0, 1, 2], lambda means: (means[0] + means[1] + means[2]) / 3),
        ("centred", [0, 1, 2], lambda means: means[1] - (means[0] + means[1] + means[2]) / 3),
    ],
)
def test_controls_made_from_several_tasks(files, control, tasks, expected):
    found = added(files, control=control, means=[files.paths[k] for k in tasks])
    assert heads_in(found) == set(SELECTED)
    for layer, head in SELECTED:
        wanted = expected(files.means)[layer, head]
        torch.testing.assert_close(found[layer][head], wanted, atol=1e-5, rtol=1e-5)


def test_which_tasks_a_control_is_made_from():
    order = ["verbs", "nouns", "news"]
    assert [control_tasks("other_task", task, order) for task in order] == [["nouns"], ["news"], ["verbs"]]
    for control in ("shared", "centred"):
        assert [control_tasks(control, task, order) for task in order] == [order] * 3
    for control in ("none", "random_heads", "random_vectors"):
        assert control_tasks(control, "nouns", order) == []


def test_too_few_other_heads_are_refused(files):
    message = r"^guidance.heads is 4 but only 3 heads are selected: lower it or raise vectors.heads$"
    with pytest.raises(UserError, match=message):
        added(files, heads=4)
    table = pd.read_parquet(files.heads)
    write_parquet(files.heads, table.assign(selected=[True] * (len(table) - 1) + [False]))
    with pytest.raises(UserError, match=r"random_heads, but only 1 heads .* and 3 are needed"):
        added(files, control="random_heads")

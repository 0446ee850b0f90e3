"""What is added in guided training, and the controls: other heads, other vectors, drawn once for a chain."""

from __future__ import annotations

import pandas as pd
import pytest
import torch

import tiny_models
from anamnesis.artifacts import write_parquet, write_tensors
from anamnesis.errors import UserError
from anamnesis.models.heads import find_heads
from anamnesis.prefix.engine import PrefixEngine
from anamnesis.training.guidance import guided_additions, norm
from anamnesis.training.stage import Stage

SELECTED = [(0, 1), (2, 0), (2, 3)]
SETTINGS = {"heads": 3, "vectors_from": "initial", "control": "none"}


@pytest.fixture
def files(tmp_path):
    """(ranking, mean activations) of a tiny model, three of its heads selected; and that model's geometry."""
    geometry = find_heads(tiny_models.shared("llama"))
    heads = [(layer, head) for layer in range(geometry.n_layers) for head in range(geometry.n_heads)]
    order = [*SELECTED, *(h for h in heads if h not in SELECTED)]
    table = pd.DataFrame(order, columns=["layer", "head"])
    write_parquet(tmp_path / "heads.parquet", table.assign(rank=range(1, len(order) + 1), selected=[
        h in SELECTED for h in order
    ]))  # fmt: skip
    shape = (geometry.n_layers, geometry.n_heads, geometry.head_dim)
    mean = torch.randn(shape, generator=torch.Generator().manual_seed(5))
    mean *= torch.arange(1, 1 + geometry.n_heads)[None, :, None]  # heads of different lengths
    write_tensors(tmp_path / "mean.safetensors", {"mean": mean})
    return str(tmp_path / "heads.parquet"), str(tmp_path / "mean.safetensors"), mean


def added(files, number: int = 1, seed: int = 1, chain_seed: int = 7, **changes):
    engine = PrefixEngine(tiny_models.shared("llama"))
    stage = Stage(engine, None, number, [], {}, {}, seed=seed, token_budget=64, chain_seed=chain_seed)
    return guided_additions(stage, SETTINGS | changes, *files[:2])


def heads_in(found) -> set[tuple[int, int]]:
    return {(layer, int(h)) for layer, x in found.items() for h in x.abs().sum(-1).nonzero()[:, 0]}


def test_the_mean_outputs_of_the_selected_heads_are_added(files):
    found = added(files)
    assert heads_in(found) == set(SELECTED)
    for layer, head in SELECTED:
        torch.testing.assert_close(found[layer][head], files[2][layer, head])
    lengths = torch.stack([files[2][layer, head].norm() for layer, head in SELECTED])
    assert norm(found) == pytest.approx(lengths.square().sum().sqrt().item())


def test_random_heads_are_others_each_with_its_own_mean(files):
    found = added(files, control="random_heads")
    assert len(heads_in(found)) == len(SELECTED)
    assert not heads_in(found) & set(SELECTED)
    for layer, head in heads_in(found):
        torch.testing.assert_close(found[layer][head], files[2][layer, head])


def test_random_vectors_are_as_long_head_by_head_and_point_elsewhere(files):
    found = added(files, control="random_vectors")
    assert heads_in(found) == set(SELECTED)
    for layer, head in SELECTED:
        real = files[2][layer, head]
        assert found[layer][head].norm().item() == pytest.approx(real.norm().item(), rel=1e-5)
        assert torch.cosine_similarity(found[layer][head], real, dim=0).abs() < 0.99
    assert norm(found) == pytest.approx(norm(added(files)), rel=1e-5)


@pytest.mark.parametrize("control", ["random_heads", "random_vectors"])
def test_controls_are_drawn_once_for_a_chain(files, control):
    first, later = added(files, 1, seed=1, control=control), added(files, 2, seed=99, control=control)
    assert all(torch.equal(first[layer], later[layer]) for layer in first)
    others = [added(files, 1, chain_seed=s, control=control) for s in range(8, 12)]
    assert any(
        heads_in(o) != heads_in(first) or not torch.equal(o[min(o)], first[min(first)]) for o in others
    )


def test_too_few_other_heads_are_refused(files):
    with pytest.raises(UserError, match=r"guidance.heads is 4 but only 3 heads are selected"):
        added(files, heads=4)
    table = pd.read_parquet(files[0])
    write_parquet(files[0], table.assign(selected=[True] * (len(table) - 1) + [False]))
    with pytest.raises(UserError, match=r"random_heads, but only 1 heads .* and 3 are needed"):
        added(files, control="random_heads")

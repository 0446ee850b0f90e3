"""FlexAttention of packed trees against the grouped attention and plain forward passes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import flex_attention as torch_flex

import reference
from anamnesis.engine import flex_attention
from anamnesis.engine.attention import Call, ForestLayout, GroupedTrees
from anamnesis.engine.branch_rows import BranchRows
from anamnesis.engine.flex_attention import FlexTrees, flex_covers, visible
from anamnesis.engine.pack import Pack, Tree
from anamnesis.engine.prefix_engine import PrefixEngine, branch_row_index
from anamnesis.engine.widening import WideningLayout
from tiny_models import ARCHITECTURES, build, shared, token_ids

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from model_types import tiny

pytestmark = pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
CACHED, *TRUNKS = token_ids(1, 9, 11, 17, 5, 8)
FORKS = [token_ids(10 + i, 3, 1, 6)[: 3 - i] for i in range(4)]  # the last trunk has none
FIRST, SECOND = (tuple(ids) for ids in token_ids(5, 7, 4))
TREES = tuple(
    Tree(trunk, forks, prefix)
    for trunk, forks, prefix in zip(TRUNKS, FORKS, [FIRST, SECOND, FIRST, ()], strict=True)
)
BRANCHED = tuple(Tree(trunk, [b]) for trunk, b in zip(TRUNKS, token_ids(20, 6, 6, 6, 6), strict=True))


@pytest.fixture
def calls(monkeypatch) -> list[str]:
    """The calls of FlexAttention ("attend") and of what makes its block masks ("mask")."""
    made = []
    plain = {"attend": torch_flex.flex_attention, "mask": torch_flex.create_block_mask}

    def noted(name: str):
        return lambda *args, **options: made.append(name) or plain[name](*args, **options)

    monkeypatch.setattr(flex_attention, "_functions", lambda device: (noted("attend"), noted("mask")))
    return made


def both(name: str) -> tuple[PrefixEngine, PrefixEngine]:
    """(flex, grouped) engines of the same model."""
    model = shared(name)
    return PrefixEngine(model, attention="flex"), PrefixEngine(model)


def paths(pack: Pack, before: list[int]) -> list[tuple[range, list[int]]]:
    """For every prefix, trunk and branch of a pack: its rows, and all tokens up to its end."""
    ends = [(rows, [*before, *prefix]) for prefix, rows in pack.prefixes.items()]
    for t, tree in enumerate(pack.trees):
        start, begun = pack.starts[t], [*before, *tree.prefix, *tree.trunk]
        ends.append((range(start, start + len(tree.trunk)), begun))
        for b, branch in enumerate(tree.branches):
            start = pack.branch_start(t, b)
            ends.append((range(start, start + len(branch)), [*begun, *branch]))
    return ends


# ---------------------------------------------------------------- logits


@pytest.mark.parametrize("with_cached", [False, True], ids=["bare", "cached"])
@pytest.mark.parametrize("name", [*ARCHITECTURES, "deepseek"])
@torch.no_grad()
def test_logits_are_the_grouped_ones_and_those_of_plain_passes(name, with_cached, calls):
    flex, grouped = both(name)
    pack = Pack(TREES, grouped.prefill(CACHED) if with_cached else None)
    found = flex.run(pack, range(pack.size))
    assert calls.count("attend") == flex.geometry.n_layers
    reference.close(found, grouped.run(pack, range(pack.size)))
    ends = paths(pack, CACHED if with_cached else [])
    assert sum(len(rows) for rows, _ in ends) == pack.size
    for rows, ids in ends:
        reference.close(found[rows.start : rows.stop], reference.logits(flex.model, ids)[-len(rows) :])


@pytest.mark.parametrize(("name", "masks"), [("llama", 1), ("mistral", 1), ("gemma2", 2), ("gemma3", 2)])
@torch.no_grad()
def test_a_pack_has_one_block_mask_for_each_window(name, masks, calls):
    PrefixEngine(shared(name), attention="flex").run(Pack(TREES), [0])
    assert calls.count("mask") == masks


@torch.no_grad()
def test_packs_of_other_sizes_are_not_compiled_anew(monkeypatch):
    """On a GPU every graph that torch sees is compiled for seconds; here it is counted and run as it is."""
    graphs = {"attend": 0, "mask": 0}

    def counted(name: str, function: Callable) -> Callable:
        def backend(graph: torch.fx.GraphModule, inputs: list) -> Callable:
            graphs[name] += 1
            return graph.forward

        return torch.compile(function, backend=backend)

    functions = counted("attend", torch_flex.flex_attention), counted("mask", torch_flex.create_block_mask)
    monkeypatch.setattr(flex_attention, "_functions", lambda device: functions)
    torch.compiler.reset()
    flex, grouped = both("gemma2")
    for number in range(8):
        first, second, fork = token_ids(number, 3 + 5 * number, 40 - 4 * number, 11)
        trees = (Tree(first, [fork, second], tuple(fork[:number])), Tree(second, [fork[:5]]))
        pack = Pack(trees, grouped.prefill(CACHED[:number]))
        reference.close(flex.run(pack, range(pack.size)), grouped.run(pack, range(pack.size)))
    assert 0 < graphs["attend"] <= 3  # the first sizes, any other, and with keys of a cached prefix
    assert 0 < graphs["mask"] <= 3


@pytest.mark.parametrize("where", ["heads", "residual"])
@pytest.mark.parametrize("name", ["llama", "gemma2", "gemma3"])
@torch.no_grad()
def test_branch_rows_read_the_static_trees_of_flex_attention(name, where, calls):
    flex, grouped = both(name)
    pack = Pack(BRANCHED, grouped.prefill(CACHED))
    branch_rows = BranchRows(2, [0, 2], where, lambda layer, x: 0.5 * x + 1)
    keep = [*range(pack.size), *branch_row_index(pack, branch_rows).flatten().tolist()]
    found = flex.run(pack, keep, branch_rows)
    assert calls.count("attend") == flex.geometry.n_layers
    expected = grouped.run(pack, keep, branch_rows)
    first = pack.branch_start(0, 0)
    assert (expected[pack.size] - expected[first]).abs().max() > 1e-2  # the change matters
    reference.close(found, expected)


@pytest.mark.parametrize("name", ["llama", "gemma3"])
@torch.no_grad()
def test_recorded_keys_and_values_are_the_grouped_ones(name, calls):
    (_, found), (_, expected) = (engine.run_recorded(Pack(TREES), [0]) for engine in both(name))
    assert calls
    for prefix in (FIRST, SECOND):
        ours, theirs = found.prefix(prefix), expected.prefix(prefix)
        torch.testing.assert_close(ours.keys, theirs.keys, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(ours.values, theirs.values, rtol=1e-4, atol=1e-5)


def test_what_a_token_sees():
    """Rows: prefix 0 1, trunk 2, branches 3 and 4 5; a tree of its own, 6 7."""
    pack = Pack((Tree([1], [[2], [3, 4]], (8, 9)), Tree([5, 6])))
    expected = {
        None: ["0", "01", "012", "0123", "0124", "01245", "6", "67"],
        2: ["0", "01", "12", "23", "24", "45", "6", "67"],
    }
    for window, rows in expected.items():
        mask = torch_flex.create_mask(visible(pack, window, torch.device("cpu")), 1, 1, 8, 8, "cpu")[0, 0]
        assert ["".join(str(int(k)) for k in row.nonzero()) for row in mask] == rows


# ---------------------------------------------------------------- gradients


def gradients(name: str, attention: str) -> list[torch.Tensor]:
    model = build(name)
    pack = Pack(TREES)
    logits = PrefixEngine(model, attention=attention).run(pack, range(pack.size))
    weights = torch.randn(logits.shape, generator=torch.Generator().manual_seed(7))
    (logits.log_softmax(-1) * weights).sum().backward()
    return [parameter.grad for parameter in model.parameters()]


@pytest.mark.parametrize("name", ["llama", "gemma2", "mistral", "gpt2"])
def test_gradients_are_the_grouped_ones(name, calls, monkeypatch):
    """Torch refuses them on the CPU, although the form that it runs there has them."""
    monkeypatch.setattr(torch_flex, "_validate_device", lambda query, key, value: None)
    monkeypatch.setattr(flex_attention, "flex_covers", lambda query, key, value, call: True)
    found = gradients(name, "flex")
    assert calls
    for ours, theirs in zip(found, gradients(name, "grouped"), strict=True):
        assert theirs.abs().max() > 0
        assert (ours - theirs).abs().max() <= 1e-4 * theirs.abs().max()


# ---------------------------------------------------------------- what FlexAttention does not do


def test_gradients_on_a_cpu_are_computed_in_groups(calls):
    for ours, theirs in zip(gradients("llama", "flex"), gradients("llama", "grouped"), strict=True):
        assert torch.equal(ours, theirs)
    assert not calls


@torch.no_grad()
def test_sinks_are_computed_in_groups(calls):
    model = tiny("gpt_oss").float()
    flex, grouped = PrefixEngine(model, attention="flex"), PrefixEngine(model)
    pack = Pack(TREES)
    found = flex.run(pack, range(pack.size))
    assert torch.equal(found, grouped.run(pack, range(pack.size)))
    assert not calls


def tensors(device: str, head_dim: int = 16) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Query, key and value of a row of five tokens."""
    generator = torch.Generator().manual_seed(3)
    query, key, value = (torch.randn(n, 5, head_dim, generator=generator) for n in (4, 2, 2))
    return query.to(device), key.to(device), value.to(device)


def test_dropout_is_computed_in_groups(calls):
    def attended(kind: type[GroupedTrees], dropout: float) -> torch.Tensor:
        torch.manual_seed(0)
        call = Call(0, 0.3, dropout, None, None)
        return kind(Pack((Tree([1, 2], [[3], [4, 5]]),))).attend(*tensors("cpu"), call)

    assert torch.equal(attended(FlexTrees, 0.5), attended(GroupedTrees, 0.5))
    assert not torch.equal(attended(GroupedTrees, 0.5), attended(GroupedTrees, 0.0))
    assert not calls


def test_what_flex_attention_covers():
    call = Call(0, 0.3, 0.0, None, None)
    assert flex_covers(*tensors("cpu"), call)
    assert flex_covers(*tensors("cpu", 12), call)
    assert not flex_covers(*tensors("meta"), call)
    assert not flex_covers(*tensors("cpu"), Call(0, 0.3, 0.1, None, None))
    assert not flex_covers(*tensors("cpu"), Call(0, 0.3, 0.0, None, None, torch.zeros(4)))
    for number in range(3):
        row = tensors("cpu")
        row[number].requires_grad_()
        assert not flex_covers(*row, call)
    with FakeTensorMode():
        wide, narrow = (torch.empty(4, 5, d, device="cuda", requires_grad=True) for d in (16, 15))
        assert flex_covers(wide, wide, wide, call)
        assert not flex_covers(narrow, narrow, wide, call)
        assert not flex_covers(wide, wide, narrow, call)


# ---------------------------------------------------------------- the choice


def test_the_choice_is_grouped_unless_asked_otherwise(calls):
    engine = PrefixEngine(shared("llama"))
    with torch.no_grad():
        engine.run(Pack(TREES), [0])
    assert not calls
    with pytest.raises(ValueError, match="attention is 'flash': choose from grouped, flex"):
        PrefixEngine(engine.model, attention="flash")


def test_what_runs_below_a_layer_attends_as_the_rest():
    wide = ForestLayout(Pack((Tree([1, 2]), Tree([1, 3]))), torch.device("cpu"), attention=FlexTrees)
    assert type(WideningLayout(wide, 1, 1).below.static) is FlexTrees

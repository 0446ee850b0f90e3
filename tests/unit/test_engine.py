"""The prefix engine against plain forward passes, on every architecture."""

from __future__ import annotations

import pytest
import torch

import reference
from anamnesis.engine.branch_rows import BranchRows
from anamnesis.engine.hooks import added_to_heads, added_to_residual, captured_heads
from anamnesis.engine.pack import Pack, Tree, common_prefix_length, pack_by_size
from anamnesis.engine.prefix_engine import PrefixEngine, branch_row_index
from tiny_models import ARCHITECTURES, WINDOWED, build, shared, token_ids

PREFIX, *TRUNKS = token_ids(1, 9, 11, 17, 5)
FORKS = [token_ids(10 + i, 3, 1, 6) for i in range(len(TRUNKS))]
TREES = tuple(Tree(trunk, forks) for trunk, forks in zip(TRUNKS, FORKS, strict=True))


def engine_of(name: str) -> PrefixEngine:
    return PrefixEngine(shared(name))


def prefixed(engine: PrefixEngine, trees: tuple[Tree, ...], with_prefix: bool) -> tuple[Pack, list[int]]:
    """The pack and the tokens that stand before each of its trees."""
    return Pack(trees, engine.prefill(PREFIX) if with_prefix else None), PREFIX if with_prefix else []


@pytest.mark.parametrize("with_prefix", [False, True], ids=["bare", "prefix"])
@pytest.mark.parametrize("name", ARCHITECTURES)
@torch.no_grad()
def test_packed_trees_equal_separate_sequences(name, with_prefix):
    engine = engine_of(name)
    pack, before = prefixed(engine, TREES, with_prefix)
    packed = engine.run(pack, range(pack.size))
    for t, tree in enumerate(TREES):
        trunk = [*before, *tree.trunk]
        start = pack.starts[t]
        alone = reference.logits(engine.model, trunk)[len(before) :]
        reference.close(packed[start : start + len(tree.trunk)], alone)
        for b, branch in enumerate(tree.branches):
            start = pack.branch_start(t, b)
            alone = reference.logits(engine.model, [*trunk, *branch])[len(trunk) :]
            reference.close(packed[start : start + len(branch)], alone)


STARTS = [tuple(ids) for ids in token_ids(5, 7, 4)]
WITH_STARTS = tuple(
    Tree(tree.trunk, tree.branches, prefix)
    for tree, prefix in zip([*TREES, TREES[1]], [STARTS[0], STARTS[1], STARTS[0], ()], strict=True)
)


@pytest.mark.parametrize("with_prefix", [False, True], ids=["bare", "prefix"])
@pytest.mark.parametrize("name", ARCHITECTURES)
@torch.no_grad()
def test_trees_share_the_prefixes_they_have_in_common(name, with_prefix):
    engine = engine_of(name)
    pack, before = prefixed(engine, WITH_STARTS, with_prefix)
    assert pack.size == sum(tree.size for tree in WITH_STARTS) + sum(map(len, STARTS))
    packed = engine.run(pack, range(pack.size))
    for t, tree in enumerate(WITH_STARTS):
        begun = [*before, *tree.prefix]
        start = pack.starts[t]
        alone = reference.logits(engine.model, [*begun, *tree.trunk])
        reference.close(packed[start : start + len(tree.trunk)], alone[len(begun) :])
        if tree.prefix:
            rows = pack.prefixes[tree.prefix]
            reference.close(packed[rows.start : rows.stop], alone[len(before) : len(begun)])
        for b, branch in enumerate(tree.branches):
            start = pack.branch_start(t, b)
            alone = reference.logits(engine.model, [*begun, *tree.trunk, *branch])[-len(branch) :]
            reference.close(packed[start : start + len(branch)], alone)


@pytest.mark.parametrize("name", ["llama", "gpt2", "mistral"])
@torch.no_grad()
def test_kept_rows_come_in_the_order_asked_for(name):
    engine, pack = engine_of(name), Pack(TREES)
    everything = engine.run(pack, range(pack.size))
    keep = [pack.size - 1, 0, 7, 7]
    torch.testing.assert_close(engine.run(pack, keep), everything[keep], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", WINDOWED)
@torch.no_grad()
def test_window_is_narrower_than_the_prompts(name):
    """In a model of sliding layers only, a token beyond the reach of all windows changes nothing."""
    model = shared(name)
    ids = token_ids(3, 30)[0]
    assert model.config.sliding_window < len(TRUNKS[2]) + len(FORKS[2][0])
    changed = [ids[0] % 100 + 1, *ids[1:]]
    reach = 3 * (model.config.sliding_window - 1)
    same = torch.allclose(
        reference.logits(model, ids)[reach + 1 :], reference.logits(model, changed)[reach + 1 :]
    )
    assert same == (name == "mistral")


# ---------------------------------------------------------------- rows born in the middle of a pass

BRANCHES = token_ids(20, 6, 6, 6, 6)
SPROUTS = tuple(
    Tree(trunk, [b]) for trunk, b in zip([*TRUNKS, []], BRANCHES, strict=True)
)  # one has no trunk


@pytest.mark.parametrize(("with_prefix", "m"), [(False, 1), (True, 6)], ids=["bare", "prefix"])
@pytest.mark.parametrize("name", ARCHITECTURES)
@torch.no_grad()
def test_born_heads_equal_one_forward_per_head(name, with_prefix, m):
    engine = engine_of(name)
    layers, heads, size = reference.head_shape(engine.model)
    values = torch.randn(layers, heads, size, generator=torch.Generator().manual_seed(5))

    def change(layer, x):
        x = x.clone()
        x[:, torch.arange(heads), torch.arange(heads)] = values[layer]
        return x

    trees = tuple(Tree(tree.trunk, [tree.branches[0][:m]]) for tree in SPROUTS)
    pack, before = prefixed(engine, trees, with_prefix)
    branch_rows = BranchRows(heads, range(layers), "heads", change)
    index = branch_row_index(pack, branch_rows)
    born = engine.run(pack, index.flatten(), branch_rows).view(*index.shape, -1)
    for t, tree in enumerate(trees):
        ids = [*before, *tree.trunk, *tree.branches[0]]
        clean = reference.logits(engine.model, ids)[-m:]
        for layer in range(layers):
            for head in range(heads):
                with reference.patched_head(engine.model, layer, head, len(ids) - m, values[layer, head]):
                    plain = reference.logits(engine.model, ids)[-m:]
                reference.close(born[layer, head, t], plain)
                assert (
                    plain[0] - clean[0]
                ).abs().max() > 1e-2  # the head matters, so agreement means something


@pytest.mark.parametrize(("with_prefix", "m"), [(False, 1), (True, 6)], ids=["bare", "prefix"])
@pytest.mark.parametrize("name", ARCHITECTURES)
@torch.no_grad()
def test_born_residuals_equal_one_forward_per_vector(name, with_prefix, m):
    engine, at = engine_of(name), [0, 2]
    vectors = torch.randn(2, engine.model.config.hidden_size, generator=torch.Generator().manual_seed(6))
    trees = tuple(Tree(tree.trunk, [tree.branches[0][:m]]) for tree in SPROUTS)
    pack, before = prefixed(engine, trees, with_prefix)
    branch_rows = BranchRows(2, at, "residual", lambda layer, x: x + vectors)
    index = branch_row_index(pack, branch_rows)
    clean = [pack.branch_start(t, 0) for t in range(len(trees))]
    rows = engine.run(pack, torch.cat([index.flatten(), torch.tensor(clean)]), branch_rows)
    born, static = rows[: index.numel()].view(*index.shape, -1), rows[index.numel() :]
    for t, tree in enumerate(trees):
        ids = [*before, *tree.trunk, *tree.branches[0]]
        reference.close(static[t], reference.logits(engine.model, ids)[-m])
        for i, layer in enumerate(at):
            for c in range(2):
                with reference.shifted_residual(engine.model, layer, len(ids) - m, vectors[c]):
                    plain = reference.logits(engine.model, ids)[-m:]
                reference.close(born[i, c, t], plain)


@pytest.mark.parametrize(
    "trees",
    [
        (Tree([1, 2]),),
        (Tree([1], [[2], [3]]),),
        (Tree([1], [[2]]), Tree([1], [[2, 3]])),
        (Tree([1], [[]]),),
        (Tree([1], [[2]], prefix=(3,)),),
    ],
    ids=["no branch", "two branches", "unlike branches", "empty branch", "prefix"],
)
def test_rows_are_born_only_from_one_branch_of_one_length(trees):
    engine = engine_of("llama")
    branch_rows = BranchRows(1, [0], "residual", lambda layer, x: x)
    with pytest.raises(ValueError, match="one branch, all of the same length"):
        engine.run(Pack(trees), [0], branch_rows)


@pytest.mark.parametrize("name", ["llama", "gemma3"])
@torch.no_grad()
def test_rows_are_born_from_prompts_of_one_token(name):
    engine = engine_of(name)
    vector = torch.randn(48, generator=torch.Generator().manual_seed(4))
    pack, branch_rows = (
        Pack((Tree([], [[7]]), Tree([], [[9]]))),
        BranchRows(1, [1], "residual", lambda layer, x: x + vector),
    )
    born = engine.run(pack, branch_row_index(pack, branch_rows).flatten(), branch_rows)
    for row, token in zip(born, (7, 9), strict=True):
        with reference.shifted_residual(engine.model, 1, 0, vector):
            reference.close(row, reference.logits(engine.model, [token])[0])


@torch.no_grad()
def test_values_of_another_width_than_keys():
    engine = engine_of("deepseek")
    assert (engine.geometry.n_heads, engine.geometry.head_dim) == (4, 12)
    vector = torch.randn(48, generator=torch.Generator().manual_seed(4))
    pack, before = prefixed(engine, SPROUTS, with_prefix=True)
    branch_rows = BranchRows(1, [1], "residual", lambda layer, x: x + vector)
    born = engine.run(pack, branch_row_index(pack, branch_rows)[0, 0, :, -1], branch_rows)
    for row, tree in zip(born, SPROUTS, strict=True):
        ids = [*before, *tree.trunk, *tree.branches[0]]
        with reference.shifted_residual(engine.model, 1, len(ids) - 6, vector):
            reference.close(row, reference.logits(engine.model, ids)[-1])


@pytest.mark.parametrize("layers", [[2, 0], [1, 1]])
def test_birth_layers_must_increase(layers):
    with pytest.raises(ValueError, match="must increase"):
        BranchRows(1, layers, "heads", lambda layer, x: x)


# ---------------------------------------------------------------- gradients


@pytest.mark.parametrize("name", ["llama", "gemma2", "mistral", "gpt2"])
def test_gradient_through_packed_trees_equals_that_of_separate_passes(name):
    packed_model, plain_model = build(name), build(name)
    pack = Pack(TREES)
    engine = PrefixEngine(packed_model)
    index = [(t, b) for t, tree in enumerate(TREES) for b in range(len(tree.branches))]
    weights = torch.randn(len(index), 320, generator=torch.Generator().manual_seed(7))
    ends = [pack.branch_start(t, b) + len(TREES[t].branches[b]) - 1 for t, b in index]
    (engine.run(pack, ends).log_softmax(-1) * weights).sum().backward()
    for (t, b), weight in zip(index, weights, strict=True):
        ids = [*TREES[t].trunk, *TREES[t].branches[b]]
        (reference.logits(plain_model, ids)[-1].log_softmax(-1) * weight).sum().backward()
    for (label, packed), plain in zip(packed_model.named_parameters(), plain_model.parameters(), strict=True):
        expected = plain.grad
        assert expected is not None, label
        assert expected.abs().max() > 0, label
        assert (packed.grad - expected).abs().max() <= 1e-4 * expected.abs().max(), label


# ---------------------------------------------------------------- hooks


@pytest.mark.parametrize("name", ["llama", "qwen3", "gpt2"])
@torch.no_grad()
def test_captured_heads_are_those_of_plain_passes(name):
    engine, pack = engine_of(name), Pack(tuple(Tree(t) for t in TRUNKS))
    ends = [pack.trunk_end(t) for t in range(len(TRUNKS))]
    with captured_heads(engine.geometry, ends) as captured:
        engine.run(pack, ends)
    for t, trunk in enumerate(TRUNKS):
        expected = reference.head_outputs(engine.model, trunk)
        torch.testing.assert_close(torch.stack(captured, 1)[t], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["llama", "gpt2"])
@torch.no_grad()
def test_additions_to_heads_and_residual_reach_their_rows_only(name):
    engine, pack = engine_of(name), Pack(tuple(Tree(t) for t in TRUNKS[:2]))
    _, heads, size = reference.head_shape(engine.model)
    addition = torch.zeros(heads, size)
    addition[2] = torch.randn(size, generator=torch.Generator().manual_seed(8))
    first, second = (pack.trunk_end(t) for t in range(2))
    with added_to_heads(engine.geometry, {1: addition}, torch.tensor([first]), torch.tensor([0.5])):
        changed = engine.run(pack, [first, second])
    value = reference.head_outputs(engine.model, TRUNKS[0])[1, 2] + 0.5 * addition[2]
    with reference.patched_head(engine.model, 1, 2, len(TRUNKS[0]) - 1, value):
        expected = reference.logits(engine.model, TRUNKS[0])[-1]
    reference.close(changed[0], expected)
    reference.close(changed[1], reference.logits(engine.model, TRUNKS[1])[-1])

    vector = torch.randn(engine.geometry.hidden_size, generator=torch.Generator().manual_seed(9))
    with added_to_residual(engine.geometry, 1, vector, [second]):
        changed = engine.run(pack, [first, second])
    with reference.shifted_residual(engine.model, 1, len(TRUNKS[1]) - 1, vector):
        expected = reference.logits(engine.model, TRUNKS[1])[-1]
    reference.close(changed[1], expected)
    reference.close(changed[0], reference.logits(engine.model, TRUNKS[0])[-1])


# ---------------------------------------------------------------- the model is left as it was


def state_of(model: torch.nn.Module) -> tuple:
    weights = sum(float(p.detach().double().sum()) for p in model.parameters())
    return model.config._attn_implementation, reference.hook_count(model), model.training, weights


def failing(layer, x):
    raise KeyError("the caller's own code failed")


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_model_is_left_as_it_was(name):
    model = shared(name)
    before, logits = state_of(model), reference.logits(model, TRUNKS[0])
    engine = PrefixEngine(model)
    pack = Pack(SPROUTS, engine.prefill(PREFIX))
    engine.run(pack, [0], BranchRows(2, [1], "heads", lambda layer, x: x))
    assert state_of(model) == before
    for where in ("heads", "residual"):
        with pytest.raises(KeyError, match="own code failed"):
            engine.run(pack, [0], BranchRows(2, [1], where, failing))
        assert state_of(model) == before
    with pytest.raises(IndexError):
        engine.run(pack, [10**6])
    assert state_of(model) == before
    assert torch.equal(reference.logits(model, TRUNKS[0]), logits)


def test_hooks_go_when_their_block_fails():
    engine = engine_of("llama")
    before = reference.hook_count(engine.model)
    blocks = [
        captured_heads(engine.geometry, [0]),
        added_to_heads(engine.geometry, {0: torch.zeros(4, 12)}, torch.tensor([0]), torch.tensor([1.0])),
        added_to_residual(engine.geometry, 0, torch.zeros(48), [0]),
    ]
    for block in blocks:
        with pytest.raises(KeyError), block:  # noqa: PT012
            assert reference.hook_count(engine.model) > before
            raise KeyError
        assert reference.hook_count(engine.model) == before


# ---------------------------------------------------------------- packs


def test_pack_lays_trees_out_one_after_another():
    pack = Pack((Tree([5, 6], [[7], [8, 9]]), Tree([4], [[3]])))
    assert pack.tokens.tolist() == [5, 6, 7, 8, 9, 4, 3]
    assert pack.positions.tolist() == [0, 1, 2, 2, 3, 0, 1]
    assert pack.starts == (0, 5)
    assert [pack.trunk_end(0), pack.branch_start(0, 1), pack.trunk_end(1), pack.branch_start(1, 0)] == [
        1,
        3,
        5,
        6,
    ]


@pytest.mark.parametrize("budget", [1, 10, 17, 1000])
def test_batches_hold_every_index_once_and_keep_to_the_budget(budget):
    sizes = [3, 11, 7, 7, 2, 15, 1]
    batches = list(pack_by_size(sizes, budget))
    assert sorted(i for batch in batches for i in batch) == list(range(len(sizes)))
    for batch in batches:
        assert len(batch) == 1 or sum(sizes[i] for i in batch) <= budget
    assert sizes[batches[0][0]] == max(sizes)


def test_common_prefix():
    assert common_prefix_length([]) == 0
    assert common_prefix_length([[1, 2, 3]]) == 3
    assert common_prefix_length([[1, 2, 3], [1, 2], [1, 2, 9]]) == 2
    assert common_prefix_length([[1], [2]]) == 0
    assert common_prefix_length([[], [2]]) == 0

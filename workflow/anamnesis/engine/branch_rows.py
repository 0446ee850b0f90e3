"""Branch rows: rows that are born in the middle of a forward pass.

A causal-effect sweep asks, for every head of every layer: what would the last token have predicted, had this
head's output been another? Nothing before that token changes, and below the layer nothing changes either. So
at layer l the last token (or the last branch of a tree) is copied once per variant, the copies are changed,
and only they continue upwards, reading the trunk's keys and values where they lie. See :class:`BranchRows`
for what may be asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from anamnesis.engine.attention import Call, ForestLayout, GroupedTrees
from anamnesis.engine.block_attention import Block, attend_blocks
from anamnesis.engine.pack import Pack, Prefix

if TYPE_CHECKING:
    from anamnesis.engine.heads import HeadGeometry

Change = Callable[[int, torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class BranchRows:
    """Copies of the first branch of each tree, born at each of ``layers``.

    ``copies``   variants per layer (for example one per head)
    ``layers``   increasing layer indices at which copies are born
    ``where``    "heads": ``change(layer, x)`` gets the output-projection input of the copies' first token,
                 x (n_trees, copies, n_heads, head_dim); "residual": the residual stream after the layer,
                 x (n_trees, copies, hidden_size). It returns the changed tensor and must not write into x.
    All trees of the pack must have exactly one branch, all of the same length.
    Raises ValueError for layers that do not increase: the order of the rows is that of the layers.
    """

    copies: int
    layers: Sequence[int]
    where: str
    change: Change

    def __post_init__(self) -> None:
        if list(self.layers) != sorted(set(self.layers)):
            raise ValueError(f"the layers at which rows are born must increase: {list(self.layers)}")


class BranchingLayout(ForestLayout):
    """Attention of a pack and of the branch rows born so far: each reads its tree's trunk and its own tokens.

    Born tokens follow the static ones in the order (birth layer, copy, tree, token).
    """

    def __init__(
        self,
        pack: Pack,
        branch_rows: BranchRows,
        device: torch.device,
        attention: type[GroupedTrees] = GroupedTrees,
    ):
        super().__init__(pack, device, attention=attention)
        lengths = {len(tree.branches[0]) if len(tree.branches) == 1 else 0 for tree in pack.trees}
        if len(lengths) != 1 or 0 in lengths or pack.prefixes:
            raise ValueError(
                "branch rows need trees with one branch, all of the same length, and without a prefix"
            )
        self.branch_rows, self.m = branch_rows, lengths.pop()
        trunks = torch.tensor([len(tree.trunk) for tree in pack.trees])
        step = torch.arange(int(trunks.max()))
        # all of this is worked out on the CPU: a device would have to be waited for
        self._trunk = torch.tensor(pack.starts)[:, None] + step.clamp(max=(trunks[:, None] - 1).clamp(min=0))
        self._trunk_sees = step < trunks[:, None]  # (T, n)
        first = torch.tensor([pack.branch_start(t, 0) for t in range(len(pack.trees))])
        self._parents = first[:, None] + torch.arange(self.m)  # (T, m)
        self.born = 0  # copies alive, per tree
        self._placed: dict[torch.device, tuple[torch.Tensor, torch.Tensor]] = {}
        self._blocks: dict[tuple, tuple] = {}

    def places(self, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        """On a device that a layer lies on: for every token of the row once all copies are born, the static
        token it is copied from; and the rows (T, n) of each tree's trunk, padded with its last token.
        """
        if device not in self._placed:
            copies = self._parents.flatten().repeat(self.branch_rows.copies * len(self.branch_rows.layers))
            source = torch.cat([torch.arange(self.pack.size), copies])
            self._placed[device] = source.to(device), self._trunk.to(device)
        return self._placed[device]

    def source(self, device: torch.device) -> torch.Tensor:
        """For every token of the grown row, the static token it was copied from."""
        return self.places(device)[0][: self.pack.size + self.born * self._parents.numel()]

    def grow(self, hidden: torch.Tensor) -> torch.Tensor:
        """Append this layer's copies to a (1, N, hidden_size) stream."""
        self.born += self.branch_rows.copies
        count = self.branch_rows.copies * self._parents.numel()
        return torch.cat([hidden, hidden[:, self.source(hidden.device)[-count:]]], 1)

    def newest(self, tensor: torch.Tensor) -> torch.Tensor:
        """The newest copies' tokens of a (1, N, width) tensor: a view (copies, n_trees, m, width)."""
        count = self.branch_rows.copies * self._parents.numel()
        return tensor[0, -count:].view(self.branch_rows.copies, len(self.pack.trees), self.m, -1)

    def attend(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, call: Call) -> torch.Tensor:
        n = self.pack.size
        static = super().attend(query[:, :n], key[:, :n], value[:, :n], call)
        if not self.born:
            return static

        def rows(x: torch.Tensor) -> torch.Tensor:  # (heads, born tokens, d) -> (T, R, m, heads, d)
            shape = (x.shape[0], self.born, len(self.pack.trees), self.m, x.shape[2])
            return x[:, n:].reshape(shape).permute(2, 1, 3, 0, 4)

        own_k, own_v = rows(key).transpose(2, 3), rows(value).transpose(2, 3)
        trunk_sees, own_sees = self._visible(call.window, query.device)
        blocks = [Block(own_k, own_v, own_sees)]
        if self._trunk.shape[1]:  # prompts of one token have no trunk
            blocks.insert(0, Block(self._trunk_of(key), self._trunk_of(value), trunk_sees))
        if self.pack.cached is not None:
            blocks.insert(0, self._prefix_block(self.pack.cached, call, query.device))
        out = attend_blocks(rows(query), blocks, call).transpose(0, 1)  # (R, T, m, heads, d)
        whole = static.new_empty(query.shape[1], *static.shape[1:])
        whole[:n] = static
        whole[n:].view(out.shape).copy_(out)
        return whole

    def _trunk_of(self, tensor: torch.Tensor) -> torch.Tensor:
        """(kv, N, d) keys or values -> (T, kv, n, d), those of each tree's trunk."""
        _, trunk = self.places(tensor.device)
        heads = torch.arange(tensor.shape[0], device=trunk.device)
        return tensor[heads[:, None], trunk[:, None]]

    def _visible(self, window: int | None, device: torch.device) -> tuple:
        """What the born tokens see of the trunk (T, 1, m, n) and of their own branch (1, 1, m, m)."""
        if (window, device) not in self._blocks:
            at = self.pack.positions[self._parents]  # (T, m)
            trunk = self._trunk_sees[:, None].expand(-1, self.m, -1)
            own = torch.ones(self.m, self.m, dtype=torch.bool).tril()
            if window is not None:
                trunk = trunk & (at[:, :, None] - self.pack.positions[self._trunk][:, None, :] < window)
                step = torch.arange(self.m)
                own = own & (step[:, None] - step[None, :] < window)
            self._blocks[window, device] = (
                None if trunk.all() else trunk[:, None].to(device),
                None if own.all() else own[None, None].to(device),
            )
        return self._blocks[window, device]

    def _prefix_block(self, cached: Prefix, call: Call, device: torch.device) -> Block:
        key, value = cached.keys[call.layer][None], cached.values[call.layer][None]
        sees = None
        if call.window is not None:
            at = self.pack.positions.to(device)[self._parents.to(device)]
            sees = (at[:, :, None] - torch.arange(key.shape[2], device=device) < call.window)[:, None]
        return Block(key, value, sees)


@contextmanager
def branch_rows_hooked(geometry: HeadGeometry, branching: BranchingLayout) -> Iterator[None]:
    """Hooks that grow the row at the layers asked for and change the newest copies."""
    hooks, rows = _Hooks(geometry, branching), branching.branch_rows
    with ExitStack() as stack:
        for layer, block in enumerate(geometry.blocks):
            entering = partial(hooks.enter, layer)
            stack.callback(block.register_forward_pre_hook(entering, with_kwargs=True).remove)
            if layer not in rows.layers:
                continue
            if rows.where == "heads":
                changing = partial(hooks.change_heads, layer)
                stack.callback(geometry.projections[layer].register_forward_pre_hook(changing).remove)
            else:
                stack.callback(block.register_forward_hook(partial(hooks.change_residual, layer)).remove)
        yield


class _Hooks:
    """What happens at a layer while branch rows are born; each method is a torch hook of one layer."""

    def __init__(self, geometry: HeadGeometry, branching: BranchingLayout):
        self.geometry, self.branching = geometry, branching
        self.static = branching.pack.size

    def enter(self, layer: int, module: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        """Before a layer: heads are patched inside it, so its copies are born here."""
        rows, branching = self.branching.branch_rows, self.branching
        places, kwargs = list(args), dict(kwargs)
        hidden = places[0] if places else kwargs["hidden_states"]
        if rows.where == "heads" and layer in rows.layers:
            hidden = branching.grow(hidden)
        if hidden.shape[1] != self.static:
            # The model computed rotary tables and positions once, for the row as it was given.
            source = branching.source(hidden.device)
            places = [spread(a, self.static, source) for a in places]
            kwargs = {name: spread(a, self.static, source) for name, a in kwargs.items()}
        if places:
            places[0] = hidden
        else:
            kwargs["hidden_states"] = hidden
        return tuple(places), kwargs

    def change_heads(self, layer: int, module: nn.Module, args: tuple) -> tuple:
        """Before the output projection, where heads are still apart."""
        geometry = self.geometry
        x = args[0].clone()  # the input belongs to the caller, who may need it for a gradient
        first = self.branching.newest(x)[:, :, 0]  # (copies, T, n_heads * head_dim)
        heads = first.reshape(*first.shape[:2], geometry.n_heads, geometry.head_dim).transpose(0, 1)
        changed = self.branching.branch_rows.change(layer, heads)
        first.copy_(changed.transpose(0, 1).reshape(first.shape))
        return (x, *args[1:])

    def change_residual(self, layer: int, module: nn.Module, args: tuple, output: Any) -> Any:
        """After a layer: nothing in it differs, so its copies are born behind it."""
        hidden = self.branching.grow(output[0] if isinstance(output, tuple) else output)
        first = self.branching.newest(hidden)[:, :, 0]
        changed = self.branching.branch_rows.change(layer, first.transpose(0, 1).clone())
        first.copy_(changed.transpose(0, 1))
        return (hidden, *output[1:]) if isinstance(output, tuple) else hidden


@contextmanager
def keep_rows(geometry: HeadGeometry, keep: torch.Tensor, static: int) -> Iterator[None]:
    """Send only the rows ``keep`` of the grown row on to the final norm and the output head.

    Some models reshape the last hidden states to the length they were given; for those
    (``geometry.fixed_length``) the kept rows are padded to a multiple of it.
    """

    def hook(module: nn.Module, args: tuple, output: Any) -> Any:
        hidden = output[0] if isinstance(output, tuple) else output
        hidden = hidden[:, keep.to(hidden.device)]
        if geometry.fixed_length:
            missing = -hidden.shape[1] % static
            hidden = torch.nn.functional.pad(hidden, (0, 0, 0, missing))
        return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

    handle = geometry.blocks[-1].register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def spread(value: Any, static: int, source: torch.Tensor) -> Any:
    """Per-token arguments of a decoder layer (hidden states, rotary tables, positions) for another row, whose
    token i is token ``source[i]`` of the one of ``static`` tokens.
    """
    if isinstance(value, torch.Tensor) and value.dim() >= 2 and value.shape[1] == static:
        return value[:, source.to(value.device)]
    if isinstance(value, tuple):
        return tuple(spread(v, static, source) for v in value)
    return value

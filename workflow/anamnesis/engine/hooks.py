"""Reading and changing a model's inner states for the length of a ``with`` block. No hook writes into its
input.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import Any

import torch

from anamnesis.engine.heads import HeadGeometry


@contextmanager
def without_scaling(modules: Sequence[Any]) -> Iterator[None]:
    """Attention modules of ``HeadGeometry.scaled`` do not weigh queries by their place in the row, which in a
    row of several texts is not that in the text.
    """
    for module in modules:
        module.attn_temperature_tuning = False
    try:
        yield
    finally:
        for module in modules:
            module.attn_temperature_tuning = True


@contextmanager
def captured_heads(geometry: HeadGeometry, rows: Sequence[int]) -> Iterator[list[torch.Tensor]]:
    """Yields a list that fills with one (len(rows), n_heads, head_dim) tensor per layer: head outputs before
    W_O, with gradient where the model runs with it, all on the device of the first layer.
    """
    captured: list[torch.Tensor] = []
    places = on_each_device(torch.as_tensor(rows, dtype=torch.long))

    def hook(module: torch.nn.Module, args: tuple) -> None:
        x = args[0][0, places(args[0].device)].reshape(len(rows), geometry.n_heads, geometry.head_dim)
        captured.append(x.to(captured[0].device) if captured else x)

    with ExitStack() as stack:
        for projection in geometry.projections:
            stack.callback(projection.register_forward_pre_hook(hook).remove)
        yield captured


@contextmanager
def captured_lengths(geometry: HeadGeometry, rows: Sequence[int]) -> Iterator[list[torch.Tensor]]:
    """Yields a list that fills with one (len(rows),) tensor per layer, on the CPU: the length of the residual
    stream after it.
    """
    captured: list[torch.Tensor] = []
    places = on_each_device(torch.as_tensor(rows, dtype=torch.long))

    def hook(module: torch.nn.Module, args: tuple, output: Any) -> None:
        hidden = output[0] if isinstance(output, tuple) else output
        captured.append(hidden[0, places(hidden.device)].float().norm(dim=-1).cpu())

    with ExitStack() as stack:
        for block in geometry.blocks:
            stack.callback(block.register_forward_hook(hook).remove)
        yield captured


@contextmanager
def added_to_heads(
    geometry: HeadGeometry, additions: Mapping[int, torch.Tensor], rows: torch.Tensor, degree: torch.Tensor
) -> Iterator[None]:
    """Add ``degree[i] * additions[layer]`` to all head outputs of token ``rows[i]`` in each layer named.

    ``additions[layer]``: (n_heads, head_dim), zero for heads left alone (paper 2406.12227, eq. 3).
    """

    places, degrees = on_each_device(rows), on_each_device(degree)

    def hook_for(addition: torch.Tensor) -> Callable[[torch.nn.Module, tuple], tuple]:
        flat = addition.reshape(1, -1)

        def hook(module: torch.nn.Module, args: tuple) -> tuple:
            x = args[0]
            delta = degrees(x.device).to(x.dtype)[:, None] * flat.to(x)
            return (x.index_add(1, places(x.device), delta[None]), *args[1:])

        return hook

    with ExitStack() as stack:
        for layer, addition in additions.items():
            stack.callback(geometry.projections[layer].register_forward_pre_hook(hook_for(addition)).remove)
        yield


@contextmanager
def added_to_residual(
    geometry: HeadGeometry, layer: int, vector: torch.Tensor, rows: Sequence[int]
) -> Iterator[None]:
    """Add ``vector`` (hidden_size) to the residual stream after ``layer`` at the tokens ``rows``."""
    handle = geometry.blocks[layer].register_forward_hook(_adding(vector, rows))
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def added_to_attention(
    geometry: HeadGeometry, layer: int, vector: torch.Tensor, rows: Sequence[int]
) -> Iterator[None]:
    """Add ``vector`` (hidden_size) to what the attention of ``layer`` adds to the residual stream at the
    tokens ``rows``.
    """
    norm, gain = geometry.writing.norms[layer], geometry.writing.gains[layer]
    vector = vector if gain is None else vector / gain.to(vector)
    handle = (norm or geometry.projections[layer]).register_forward_hook(_adding(vector, rows))
    try:
        yield
    finally:
        handle.remove()


def _adding(vector: torch.Tensor, rows: Sequence[int]) -> Callable[[torch.nn.Module, tuple, Any], Any]:
    """A hook that adds ``vector`` to a module's output (1, n_tokens, hidden_size) at ``rows``."""
    index = torch.as_tensor(rows, dtype=torch.long)

    def hook(module: torch.nn.Module, args: tuple, output: Any) -> Any:
        hidden = output[0] if isinstance(output, tuple) else output
        delta = vector.to(hidden.device, hidden.dtype).expand(1, len(index), -1)
        hidden = hidden.index_add(1, index.to(hidden.device), delta)
        return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

    return hook


def on_each_device(tensor: torch.Tensor) -> Callable[[torch.device], torch.Tensor]:
    """The tensor on the device asked for, moved there once: layers may lie on several."""
    return cache(tensor.to)

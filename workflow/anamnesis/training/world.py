"""The processes that train one model together, each on its share of every batch.

Every process has the trainable weights and an optimiser of its own. A batch is divided among them. Each
weights its part of the loss so that the parts add up to the loss of the whole batch. Gradients and losses are
summed over all processes before anything else uses them. So a step is that of one process, up to rounding.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import distributed

from anamnesis.core.errors import UserError, given
from anamnesis.core.processes import RENDEZVOUS
from anamnesis.engine.prefix_engine import PrefixEngine

PATIENCE = timedelta(hours=2)  # for another process; one that has ended is noticed at once, by who started it

DRIFT = 1e-4  # share of the weights' norm by which processes may differ in the end; on a CPU they do not


@dataclass(frozen=True)
class World:
    """This process, ``rank`` of ``size``. A process alone is a world too, in which nothing is exchanged.

    ``sharded``: whether the frozen weights are divided among all processes, so that all have to run the
    model equally often.
    """

    rank: int = 0
    size: int = 1
    device: torch.device | None = None
    sharded: bool = False

    @property
    def even(self) -> float:
        """The weight here of what is the same in all processes, and does not depend on examples."""
        return 1 / self.size

    def own(self, items: Sequence) -> Sequence:
        """This process's share of a batch; it may be empty."""
        return items[self.rank :: self.size]

    def run(self, items: Sequence) -> Sequence:
        """What this process runs of a batch: its share, or the first item (at weight zero) where it has none,
        so that all processes run the model equally often.
        """
        return self.own(items) or items[:1]

    def total(self, numbers: Sequence[float]) -> list[float]:
        """The sum over all processes of each number."""
        if self.size == 1:
            return list(numbers)
        here = torch.tensor(numbers, dtype=torch.float64, device=self.device)
        distributed.all_reduce(here)
        return here.tolist()

    def summed(
        self, gradients: Sequence[torch.Tensor | None], like: Sequence[torch.Tensor]
    ) -> list[torch.Tensor | None]:
        """The sum over all processes of each gradient, in float32; None where no process has one. ``like``:
        what they are gradients of.
        """
        if self.size == 1:
            return list(gradients)
        here = [torch.zeros_like(p) if g is None else g for g, p in zip(gradients, like, strict=True)]
        has = torch.tensor([float(g is not None) for g in gradients], device=self.device)
        flat = torch.cat([*(g.flatten().float() for g in here), has])
        distributed.all_reduce(flat)
        *parts, counts = flat.split([*(p.numel() for p in like), len(like)])
        return [
            part.view_as(p).to(p.dtype) if any_has else None
            for part, p, any_has in zip(parts, like, counts.tolist(), strict=True)
        ]

    def broadcast_from_rank0(self, tensors: Sequence[torch.Tensor]) -> None:
        """Give all processes the values that the first one has."""
        for tensor in tensors if self.size > 1 else ():
            distributed.broadcast(tensor.data, 0)

    def check_equal(self, tensors: Sequence[torch.Tensor]) -> None:
        """Raise RuntimeError unless all processes have the same values, but for rounding."""
        if self.size == 1:
            return
        here = torch.cat([t.detach().flatten().float() for t in tensors])
        first = here.clone()
        distributed.broadcast(first, 0)
        (different,) = self.total([float((here - first).norm() > DRIFT * first.norm())])
        if different:
            raise RuntimeError(f"{different:.0f} of {self.size} processes ended training with other weights")

    def wait(self) -> None:
        """Until all processes are here."""
        self.total([0.0])

    @contextmanager
    def in_turn(self) -> Iterator[None]:
        """One process after another runs the block, if the weights are sharded; all at once otherwise."""
        turns = self.size if self.sharded else 0
        for _ in range(min(self.rank, turns)):
            self.wait()
        yield
        for _ in range(self.rank, turns):
            self.wait()


ALONE = World()


def join_world(device: str) -> World:
    """The world that this process was started for (``core.processes``); one of its own otherwise.

    ``device``: cpu or cuda; with cuda each process takes the GPU of its number. Raises UserError where there
    are fewer GPUs than processes.
    """
    place = os.environ.get(RENDEZVOUS)
    if place is None:
        return ALONE
    from accelerate import PartialState

    rank, size = (int(os.environ[name]) for name in ("RANK", "WORLD_SIZE"))
    if device != "cpu" and torch.cuda.device_count() < size:
        raise UserError(
            f"training.processes is {size}, but this job sees {torch.cuda.device_count()} GPUs: give it as "
            "many (resource gpu), or lower training.processes"
        )
    state = PartialState(
        cpu=device == "cpu", init_method=f"file://{place}", rank=rank, world_size=size, timeout=PATIENCE
    )
    return World(state.process_index, state.num_processes, state.device)


def shard_frozen_weights(engine: PrefixEngine, world: World) -> None:
    """Divide the frozen weights of the engine's layers among all processes (FSDP), if they are to be shared
    out; each gathers those of a layer while it runs it. The trainable weights, embeddings and output head
    stay whole in every process, so that nothing else changes. The model is moved to the process's device,
    layer by layer.
    """
    if not world.sharded or world.size == 1:
        return
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.fsdp import fully_shard
    from torch.distributed.tensor import DTensor

    # without asking the others, whose turn it is not
    mesh = DeviceMesh.from_group(
        given(distributed.group.WORLD, "a group of processes"), given(world.device, "a device").type
    )
    trained = {p for p in engine.model.parameters() if p.requires_grad}
    for block in engine.geometry.blocks:
        # explicit, as modules without a sharded parent stay gathered by default
        fully_shard(block, mesh=mesh, ignored_params=trained, reshard_after_forward=True)
    for tensor in (*engine.model.parameters(), *engine.model.buffers()):
        if not isinstance(tensor, DTensor):
            tensor.data = tensor.data.to(world.device)

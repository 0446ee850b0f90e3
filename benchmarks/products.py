"""Products with frozen weights as the engine computes them against torch's own (MKL, in most builds).

As many weight matrices as the model has, so that they do not stay in a cache; the output head by itself. Per
number of rows: values, and gradients with respect to the rows. On processors where the engine leaves products
to torch, both sides are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from _common import Line, interleaved, main, parser, report, start
from torch.nn.functional import linear as torch_linear

from anamnesis.models.products import ONEDNN, linear

SLOWEST = 1.05  # bar: our time / torch's, in sum over the numbers of rows


def values(weights: Sequence[torch.Tensor], rows: int, product: Callable) -> Callable[[], None]:
    """Rows times every weight."""
    drawn = {w.shape[1]: torch.randn(rows, w.shape[1]) for w in weights}

    def work() -> None:
        for w in weights:
            product(drawn[w.shape[1]], w)

    return work


def gradients(weights: Sequence[torch.Tensor], rows: int, product: Callable) -> Callable[[], None]:
    """What comes back to the rows through every weight. It is a product with the weight turned round, which
    torch takes as such too.
    """
    return values([w.t() for w in weights], rows, product)


def compared(
    what: str, weights: Sequence[torch.Tensor], kind: Callable, sizes: Sequence[int], rounds: int
) -> Iterator[Line]:
    """A line for each number of rows, and one for all of them with the bar."""
    ours, torchs = 0.0, 0.0
    for rows in sizes:
        sides = {"ours": kind(weights, rows, linear), "torch": kind(weights, rows, torch_linear)}
        for work in sides.values():
            work()
        spent = interleaved(sides, rounds)
        ours, torchs = ours + spent["ours"], torchs + spent["torch"]
        note = f"{spent['torch'] * 1e3:.1f} ms by torch"
        yield Line(f"{what}, {rows} rows: ours / torch", spent["ours"] / spent["torch"], "x", note=note)
    yield Line(f"{what}, all rows: ours / torch", ours / torchs, "x", SLOWEST, at_least=False)


@torch.no_grad()
def run() -> int:
    made = parser(__doc__.splitlines()[0])
    made.add_argument("--rows", type=int, nargs="+", default=[1, 4, 16, 64, 128, 256, 512])
    options = made.parse_args()
    model, _ = start(options)
    model.requires_grad_(False)
    head = [model.get_output_embeddings().weight]
    layers = [m.weight for m in model.modules() if type(m) is torch.nn.Linear and m.weight is not head[0]]
    lines = []
    for what, weights in (("layers", layers), ("head", head)):
        for name, kind in (("values", values), ("gradients", gradients)):
            lines += compared(f"{what}, {name}", weights, kind, options.rows, options.rounds)
    print("products by oneDNN" if ONEDNN else "products by torch, on both sides")
    return report(lines, options.output)


if __name__ == "__main__":
    main(run)

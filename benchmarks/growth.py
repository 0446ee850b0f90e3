"""How time and memory grow: measured curves, the law of each, and how well it foretells the largest size.

Seconds are the processor's, of one thread, the least of several rounds in which all sizes take turns;
operations are counted by torch; memory is what torch has allocated at most in addition to the model. The last
two do not depend on what else the computer does. A law is a sum of powers of the size with coefficients >= 0
(least squares of the relative errors).
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pandas as pd
from _common import Line, UserError, main, parser, put, report, start
from _growth_curves import Curve, Size, curves
from _operations import operation_counter
from scipy.optimize import nnls
from torch.profiler import ProfilerActivity, profile

from anamnesis.core.artifacts import atomic_path, write_text
from anamnesis.figures.style import FAINT, INK, new_figure, styled
from anamnesis.stats.printed import markdown_table

QUANTITIES = {"gflop": "GFLOP", "seconds": "seconds", "mib": "MiB"}
COUNT_BAR, LAW_BAR = 25.0, 10.0  # per cent: of the count beforehand; of the law of operations, foretelling
DPI = 110
POWERS = ("", " n", " n²", " n³")


def measure(curve: Curve, rounds: int) -> pd.DataFrame:
    """A row per size: curve, size, gflop, counted_gflop, mib, seconds."""
    sizes = curve.sizes()
    least = dict.fromkeys(range(len(sizes)), float("inf"))
    rows = [measured_once(curve.name, size) for size in sizes]  # warms up, too
    for number in range(rounds):
        for i in list(least)[:: 1 if number % 2 == 0 else -1]:
            begin = time.process_time()
            sizes[i].run()
            least[i] = min(least[i], time.process_time() - begin)
    return pd.DataFrame(rows).assign(seconds=list(least.values()))


def measured_once(name: str, size: Size) -> dict[str, object]:
    with (
        profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded,
        operation_counter() as counter,
    ):
        size.run()
    return {
        "curve": name,
        "size": size.size,
        "gflop": counter.get_total_flops() / 1e9,
        "counted_gflop": size.counted.flops(size.shape) / 1e9,
        "mib": peak_bytes(recorded) / 2**20,
    }


def peak_bytes(recorded: profile) -> int:
    """The most that torch had allocated, in addition to what there was before."""
    events = recorded.profiler.kineto_results.events()
    changes = sorted((e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]")
    return int(np.cumsum([0, *(change for _, change in changes)]).max())


def fitted(sizes, values, powers) -> np.ndarray:
    """Coefficients >= 0 of the powers, with the least sum of squared relative errors."""
    sizes, values = np.asarray(sizes, dtype=float), np.asarray(values, dtype=float)
    scale = sizes.max()
    columns = np.stack([(sizes / scale) ** p for p in powers], axis=1) / values[:, None]
    return nnls(columns, np.ones(len(values)))[0] / scale ** np.asarray(powers, dtype=float)


def law_of(coefficients, powers, sizes) -> np.ndarray:
    return sum(c * np.asarray(sizes, dtype=float) ** p for c, p in zip(coefficients, powers, strict=True))


def laws(curve: Curve, frame: pd.DataFrame) -> list[dict[str, object]]:
    """One row per quantity: its law, the largest error, and the last size foretold by those before it."""
    rows, own = [], frame[frame["curve"] == curve.name]
    for quantity, unit in QUANTITIES.items():
        sizes, values = own["size"].to_numpy(), own[quantity].to_numpy()
        found = fitted(sizes, values, curve.powers)
        errors = law_of(found, curve.powers, sizes) / values - 1
        smaller = fitted(sizes[:-1], values[:-1], curve.powers)
        ahead = law_of(smaller, curve.powers, sizes[-1:])[0] / values[-1] - 1
        largest = found * sizes[-1] ** np.asarray(curve.powers, dtype=float)
        shown = zip(found, curve.powers, largest > 1e-4 * largest.sum(), strict=True)
        terms = [f"{c:.3g}{POWERS[p]}" for c, p, matters in shown if matters]
        rows.append(
            {
                "curve": curve.name,
                "of": curve.what,
                "n": f"{sizes[0]} … {sizes[-1]}",
                "quantity": unit,
                "law": " + ".join(terms),
                "largest error": f"{100 * abs(errors).max():.0f} %",
                "largest n foretold": f"{100 * ahead:+.0f} %",
                "ahead": 100 * ahead,
            }
        )
    return rows


def draw(found: list[Curve], frame: pd.DataFrame):
    """Points and laws: operations, seconds and memory of each curve, on logarithmic axes."""
    with styled():
        figure = new_figure(4.4)
        axes = figure.subplots(len(QUANTITIES), len(found), sharex="col")
        for column, curve in enumerate(found):
            rows = frame[frame["curve"] == curve.name]
            line = np.geomspace(rows["size"].min(), rows["size"].max(), 50)
            for row, (quantity, unit) in enumerate(QUANTITIES.items()):
                axis = axes[row, column]
                law = fitted(rows["size"], rows[quantity], curve.powers)
                axis.plot(line, law_of(law, curve.powers, line), color="#0072b2", linewidth=1.0)
                axis.plot(rows["size"], rows[quantity], "o", color="#d55e00", markersize=3.0)
                if quantity == "gflop":
                    axis.plot(rows["size"], rows["counted_gflop"], "x", color=INK, markersize=4.0)
                axis.set(xscale="log", yscale="log")
                axis.set_ylim(at_least_a_decade(axis.get_ylim()))
                ends = [rows["size"].min(), rows["size"].max()]
                axis.set_xticks(ends, ends)
                axis.minorticks_off()
                axis.grid(color=FAINT)
                if column == 0:
                    axis.set_ylabel(unit)
            axes[0, column].set_title(curve.name)
        figure.suptitle("Measured (dots), counted beforehand (crosses), law (lines)", x=0.01, ha="left")
    return figure


def at_least_a_decade(limits: tuple[float, float]) -> tuple[float, float]:
    """So that what does not grow looks flat."""
    middle = (limits[0] * limits[1]) ** 0.5
    return min(limits[0], middle / 10**0.5), max(limits[1], middle * 10**0.5)


def kept(found: list[Curve], document: Path | None) -> list[pd.DataFrame]:
    """What the CSV beside a document has of the curves that were not measured now."""
    file = document.with_suffix(".csv") if document else None
    if file is None or not file.exists():
        return []
    before = pd.read_csv(file)
    return [before[~before["curve"].isin([curve.name for curve in found])]]


def save(every: list[Curve], frame: pd.DataFrame, document: Path) -> None:
    """The curves as CSV and PNG beside a document, and their laws in it."""
    shown = [curve for curve in every if curve.name in set(frame["curve"])]
    frame = pd.concat([frame[frame["curve"] == curve.name] for curve in shown], ignore_index=True)
    write_text(document.with_suffix(".csv"), frame.round(4).to_csv(index=False))
    with styled(), atomic_path(document.with_suffix(".png")) as part:
        draw(shown, frame).savefig(part, format="png", dpi=DPI, metadata={"Software": None})
    table = pd.DataFrame([row for curve in shown for row in laws(curve, frame)]).drop(columns="ahead")
    picture = f"![operations, seconds and memory against size]({document.stem}.png)\n\n"
    block = picture + markdown_table(list(table.columns), table.astype(str).values.tolist()) + "\n"
    write_text(document, put(document.read_text(encoding="utf-8"), "laws", block))


def lines_of(curve: Curve, frame: pd.DataFrame) -> list[Line]:
    own = frame[frame["curve"] == curve.name]
    worst = 100 * (own["counted_gflop"] / own["gflop"] - 1).abs().max()
    ahead = abs(next(row["ahead"] for row in laws(curve, frame) if row["quantity"] == "GFLOP"))
    return [
        Line(f"{curve.name}: operations, counted beforehand", worst, "% off", COUNT_BAR, at_least=False),
        Line(f"{curve.name}: operations, largest size foretold", ahead, "% off", LAW_BAR, at_least=False),
    ]


def run() -> int:
    options = parser(__doc__.splitlines()[0])
    options.set_defaults(threads=1)
    options.add_argument("--curves", nargs="+", help="names of the curves to measure (default: all)")
    options.add_argument(
        "--write",
        type=Path,
        help="a document, as docs/explanation/growth.md: laws go into it, CSV and PNG beside it",
    )
    options = options.parse_args()
    every = curves(*start(options), options)
    names = [curve.name for curve in every]
    if unknown := sorted(set(options.curves or []) - set(names)):
        raise UserError(f"--curves names '{unknown[0]}': give some of {', '.join(names)}")
    found = [curve for curve in every if curve.name in (options.curves or names)]
    frames = []
    for curve in found:
        frames.append(measure(curve, options.rounds))
        print(frames[-1].to_string(index=False), flush=True)
    frame = pd.concat([*frames, *kept(found, options.write)], ignore_index=True)
    if options.write:
        save(every, frame, options.write)
    return report([line for curve in found for line in lines_of(curve, frame)], options.output)


if __name__ == "__main__":
    main(run)

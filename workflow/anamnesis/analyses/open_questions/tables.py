"""Three questions that the papers leave open, answered from tables: unseen wordings of instructions, what θ
leaves out, and where guidance helps new tasks. No torch.

Intervals are of means over fixed sets: in every set, examples and wordings are drawn anew, each by itself,
and the percentiles of the mean over the sets are taken.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tokenizers import Tokenizer

from anamnesis.analyses.measured import CHAIN, labelled
from anamnesis.core.names import GUIDED_SUFFIX
from anamnesis.stats.correlation import correlation

CHARACTERS_PER_TOKEN = 4.0  # of English
OWN = 0  # the number of a set's own wording
PREDICTORS = {
    "tokens": "instruction (tokens)",
    "distinct": "distinct answers / answers",
    "entropy": "entropy of the answers (bits)",
}
"""Columns of :func:`guidance_gains` that the gain may go with."""


def tabulate(
    snapshot: str,
    wordings: Sequence[pd.DataFrame],
    sufficiency: pd.DataFrame,
    curves: pd.DataFrame,
    tasks: Sequence[pd.DataFrame],
    places: Sequence[Mapping[str, Any]],
    trained: Sequence[str],
) -> dict[str, Any]:
    """The three tables. ``wordings``: one for each of ``places``; ``tasks``: those ``trained``."""
    frames = dict(zip(trained, tasks, strict=True))
    instructions = {name: str(frame["instruction"].iloc[0] or "") for name, frame in frames.items()}
    tokens = dict(zip(instructions, counted(Path(snapshot), list(instructions.values())), strict=True))
    return {
        "all_guidance_gain": guidance_gains(curves, answer_diversity(frames), tokens),
        "all_wordings": labelled(wordings, places),
        "all_sufficiency": sufficiency,
        "facts": {"places": len(places), "tokens": tokens},
    }


def counted(snapshot: Path, texts: Sequence[str]) -> list[float]:
    """Tokens of texts; guessed from their lengths where the tokenizer is not of the one file that can be read
    without torch.
    """
    file = snapshot / "tokenizer.json"
    if not file.exists():
        return [len(text) / CHARACTERS_PER_TOKEN for text in texts]
    tokenizer = Tokenizer.from_file(str(file))
    tokenizer.encode_special_tokens = True  # as text: instructions are data
    found = tokenizer.encode_batch(list(texts), add_special_tokens=False)
    return [len(encoding.ids) for encoding in found]


def interval(
    tables: Sequence[np.ndarray], resamples: int, confidence: float, seed: int = 0
) -> dict[str, float]:
    """``mean, low, high`` of the mean over ``tables``, each (wordings, examples) of one set."""
    rng, drawn = np.random.default_rng(seed), np.zeros(resamples)
    for table in tables:
        rows, columns = (rng.multinomial(n, np.full(n, 1 / n), resamples) / n for n in table.shape)
        drawn += ((rows @ table) * columns).sum(1) / len(tables)
    low, high = np.percentile(drawn, [50 * (1 - confidence), 50 * (1 + confidence)])
    return {"mean": float(np.mean([t.mean() for t in tables])), "low": float(low), "high": float(high)}


# ---------------------------------------------------------------- unseen wordings


def wording_accuracy(frame: pd.DataFrame) -> pd.DataFrame:
    """Accuracy by place, set, shots and wording: ``method, order, seed, stage, set, role, shots, wording,
    instruction, accuracy, n``. ``frame``: scores of ``checkpoints.wordings`` with their places.
    """
    keys = [*CHAIN, "stage", "set", "role", "shots", "wording", "instruction"]
    return frame.groupby(keys, sort=False)["score"].agg(accuracy="mean", n="size").reset_index()


def wording_levels(accuracy: pd.DataFrame) -> pd.DataFrame:
    """Per place, set and shots: accuracy under its ``own`` wording, ``mean`` and ``sd`` (ddof=1) over its
    ``wordings`` others, and ``n`` examples for each.
    """
    keys = [*CHAIN, "stage", "set", "role", "shots"]
    other = accuracy[accuracy["wording"] != OWN].groupby(keys, sort=False)
    found = other.agg(
        mean=("accuracy", "mean"), sd=("accuracy", "std"), wordings=("accuracy", "size"), n=("n", "max")
    )
    own = accuracy[accuracy["wording"] == OWN].set_index(keys)["accuracy"].rename("own")
    return found.join(own).reset_index()


CONTRASTS = ["contrast", "method", "shots", "mean", "low", "high", "sets", "wordings", "examples", "chains"]


def wording_contrasts(frame: pd.DataFrame, resamples: int, confidence: float) -> pd.DataFrame:
    """Differences of accuracy on held-out sets, with intervals: :data:`CONTRASTS`.

    contrast ``wording``: the other wordings minus a set's own, before training (method "") and after the last
    stage; ``guided, own`` and ``guided, others``: the guided minus the plain ``method`` after the last
    stage, of chains with the same order and seed, under the own and under the other wordings.
    """
    held = frame[frame["role"] == "held_out"]
    last = held[held["stage"] == held["stage"].max()]
    first = held[held["stage"] == 0].drop_duplicates(["set", "shots", "wording", "example_id"])
    rows = []

    def add(contrast: str, method: str, shots: int, tables: Sequence[np.ndarray], chains: int) -> None:
        found = interval(tables, resamples, confidence)
        counts = len(tables), sum(map(len, tables)), sum(table.shape[1] for table in tables)
        rows.append((contrast, method, int(shots), *found.values(), *counts, chains))

    for shots in sorted(held["shots"].unique()):
        parts = [("", first), *last.groupby("method", sort=False)]
        found = {name: _by_set(part[part["shots"] == shots]) for name, part in parts}
        for method, sets in found.items():
            add("wording", method, shots, [t[1:] - t[:1] for t in sets.values()], _chains(last, method))
        for plain in (name for name in found if name and name + GUIDED_SUFFIX in found):
            guided, pairs = found[plain + GUIDED_SUFFIX], _chains(last, plain, plain + GUIDED_SUFFIX)
            gains = [guided[name] - table for name, table in found[plain].items()]
            add("guided, own", plain, shots, [gain[:1] for gain in gains], pairs)
            add("guided, others", plain, shots, [gain[1:] for gain in gains], pairs)
    return pd.DataFrame(rows, columns=CONTRASTS)


def _by_set(frame: pd.DataFrame) -> dict[str, np.ndarray]:
    """Set -> scores (wordings, examples), the own wording first, means over chains."""
    return {
        name: part.pivot_table(index="wording", columns="example_id", values="score").to_numpy()
        for name, part in frame.groupby("set", sort=False)
    }


def _chains(frame: pd.DataFrame, *methods: str) -> int:
    """In how many orders and seeds there are chains of all ``methods``; 0 of the model before training."""
    found = [set(frame.loc[frame["method"] == m, ["order", "seed"]].itertuples(index=False)) for m in methods]
    return len(set.intersection(*found))


# ---------------------------------------------------------------- what θ leaves out


def sufficiency_contrasts(frame: pd.DataFrame, resamples: int, confidence: float) -> pd.DataFrame:
    """Paired differences of accuracy per set and over all (set ""), with intervals: ``contrast, more, set,
    mean, low, high, sets, examples``.

    contrast ``gap``: few-shot minus zero-shot with θ of S and ``more`` heads; ``added``: θ of ``more`` heads
    besides S minus θ of S; ``ranked``: the same minus the mean over as many heads at random.
    ``frame``: of ``checkpoints.sufficiency``.
    """
    right = frame.set_index(["condition", "more", "set", "example"])["right"].sort_index()
    few, sets = right["few-shot"][0], list(dict.fromkeys(frame["set"]))
    rows = []
    for more in sorted(frame.loc[frame["condition"] == "theta", "more"].unique()):
        theta = right["theta"][more]
        contrasts = {"gap": few - theta}
        if more:
            contrasts |= {"added": theta - right["theta"][0], "ranked": theta - right["random"][more]}
        for contrast, difference in contrasts.items():
            tables = {name: difference[name].to_numpy()[None] for name in sets}
            for name, chosen in {"": list(tables.values()), **{n: [t] for n, t in tables.items()}}.items():
                found = interval(chosen, resamples, confidence)
                examples = sum(table.shape[1] for table in chosen)
                rows.append({"contrast": contrast, "more": int(more), "set": name, **found,
                             "sets": len(chosen), "examples": examples})  # fmt: skip
    return pd.DataFrame(rows)


def sufficiency_levels(frame: pd.DataFrame, resamples: int, confidence: float) -> pd.DataFrame:
    """Accuracy by ``set, condition, more, heads, layer``, with its interval over ``n`` examples."""
    keys = ["set", "condition", "more", "heads", "layer"]
    rows = [
        {**dict(zip(keys, key, strict=True)),
         **interval([part["right"].to_numpy()[None]], resamples, confidence), "n": len(part)}
        for key, part in frame.groupby(keys, sort=False)
    ]  # fmt: skip
    return pd.DataFrame(rows).rename(columns={"mean": "accuracy"})


# ---------------------------------------------------------------- where guidance helps new tasks


def answer_diversity(tasks: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Of the answers that each task is trained on: ``set, distinct`` (different answers / answers),
    ``entropy`` (bits) and ``answers``.
    """
    rows = []
    for name, frame in tasks.items():
        answers = frame.loc[frame["split"] == "train", "target"]
        share = answers.value_counts(normalize=True).to_numpy()
        entropy = float(-(share * np.log2(share)).sum())
        rows.append((name, len(share) / len(answers), entropy + 0.0, len(answers)))
    return pd.DataFrame(rows, columns=["set", "distinct", "entropy", "answers"])


def guidance_gains(
    curves: pd.DataFrame, diversity: pd.DataFrame, tokens: Mapping[str, float]
) -> pd.DataFrame:
    """Per plain method with a guided form, order, seed and training task: zero-shot accuracy after the last
    stage, ``plain`` and ``guided``, and their difference ``gain``; with the number of ``tokens`` of the
    task's instruction and the columns of :func:`answer_diversity`.

    ``curves``: accuracy of all chains (``stats.summary.curves_frame``).
    """
    part = curves[(curves["role"] == "train_task") & (curves["form"] == "instruction")]
    part = part[(part["shots"] == 0) & (part["stage"] == part["stage"].max())]
    keys, methods = ["order", "seed", "set"], list(dict.fromkeys(part["method"]))
    columns = ["method", *keys, "plain", "guided", "gain", "n"]
    found = [pd.DataFrame(columns=columns)]
    for method in (m for m in methods if m + GUIDED_SUFFIX in methods):
        plain = part[part["method"] == method][[*keys, "value", "n"]].rename(columns={"value": "plain"})
        guided = part[part["method"] == method + GUIDED_SUFFIX][[*keys, "value"]]
        both = plain.merge(guided.rename(columns={"value": "guided"}), on=keys)
        found.append(both.assign(method=method, gain=both["guided"] - both["plain"])[columns])
    table = pd.concat(found[1:] or found, ignore_index=True)
    return table.assign(tokens=table["set"].map(tokens)).merge(diversity, "left", "set")


def mean_gains(gains: pd.DataFrame) -> pd.DataFrame:
    """Per method and task: mean ``gain`` over the ``pairs`` of chains, ``least`` and ``most``."""
    keys = ["method", "set", *PREDICTORS]
    grouped = gains.groupby(keys, sort=False)["gain"]
    return grouped.agg(gain="mean", least="min", most="max", pairs="size").reset_index()


def gain_correlations(gains: pd.DataFrame, resamples: int, confidence: float) -> Iterator[dict[str, Any]]:
    """Per method and predictor: Spearman correlation with the mean gain over ``n`` tasks and its bootstrap
    interval: ``method, predictor, n, spearman, low, high``.
    """
    for method, data in mean_gains(gains).groupby("method", sort=False):
        for predictor in PREDICTORS:
            x, y = data[predictor].to_numpy(float), data["gain"].to_numpy(float)
            value, low, high = correlation(x, y, True, resamples, confidence)
            yield {"method": method, "predictor": predictor, "n": len(data), "spearman": value, "low": low,
                   "high": high}  # fmt: skip

"""Tables for the open questions: accuracy under other wordings, what θ leaves out, gains by guidance."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from anamnesis.analyses.checkpoints.tables import labelled
from anamnesis.analyses.open_questions.tables import answer_diversity, guidance_gains
from anamnesis.core.artifacts import read_parquet, write_parquet

CHARACTERS_PER_TOKEN = 4.0  # of English


def main(
    snapshot: str,
    wordings: Sequence[str],
    sufficiency: str,
    curves: str,
    tasks: Sequence[str] | str,
    places: Sequence[Mapping[str, Any]],
    trained: Sequence[str],
    guidance_gain: str,
    worded: str,
    sufficient: str,
) -> dict:
    """``wordings``: one table for each of ``places``. ``tasks``: the files of the tasks ``trained``."""
    tasks = [tasks] if isinstance(tasks, str) else list(tasks)
    frames = {name: read_parquet(path) for name, path in zip(trained, tasks, strict=True)}
    instructions = {name: str(frame["instruction"].iloc[0] or "") for name, frame in frames.items()}
    tokens = dict(zip(instructions, counted(Path(snapshot), list(instructions.values())), strict=True))
    gains = guidance_gains(read_parquet(curves), answer_diversity(frames), tokens)
    write_parquet(guidance_gain, gains)
    write_parquet(worded, labelled([read_parquet(path) for path in wordings], places))
    write_parquet(sufficient, read_parquet(sufficiency))
    return {"places": len(places), "tokens": tokens}


def counted(snapshot: Path, texts: Sequence[str]) -> list[float]:
    """Tokens of texts; guessed from their lengths where the tokenizer is not of the one file that can be read
    without torch.
    """
    file = snapshot / "tokenizer.json"
    if not file.exists():
        return [len(text) / CHARACTERS_PER_TOKEN for text in texts]
    found = Tokenizer.from_file(str(file)).encode_batch(list(texts), add_special_tokens=False)
    return [len(encoding.ids) for encoding in found]


if __name__ == "__main__":
    from anamnesis.core.job import run_job

    run_job(snakemake, main)

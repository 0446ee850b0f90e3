"""The fenced blocks of the README and the documentation."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)
TUTORIAL = "docs/tutorial/first-experiment.md"


@dataclass(frozen=True)
class Block:
    """A block of a page; ``name`` says where it is, for messages of tests."""

    page: str
    number: int
    language: str
    text: str

    @property
    def name(self) -> str:
        return f"{self.page}#{self.number}"


def blocks(*languages: str) -> list[Block]:
    """All blocks in these languages, page by page."""
    return [
        Block(str(page.relative_to(ROOT)), number, language, text)
        for page in PAGES
        for number, (language, text) in enumerate(BLOCK.findall(page.read_text(encoding="utf-8")), start=1)
        if language in languages
    ]


def commands(program: str) -> list[str]:
    """The command lines that call a program, each once, without comments and settings of the environment."""
    lines = [line for block in blocks("bash") for line in block.text.splitlines()]
    bare = [re.sub(r"^(?:[A-Z_]+=\S+ )+| +# .*", "", line).strip() for line in lines]
    return list(dict.fromkeys(line for line in bare if re.match(rf"(\.venv/bin/)?{program} ", line)))


def write_tutorial(folder: Path, snapshot: Path) -> None:
    """The files of the tutorial, with more rows and a model that is there."""
    (config,) = [b.text for b in blocks("yaml") if b.page == TUTORIAL]
    (rows,) = [b.text for b in blocks("csv") if b.page == TUTORIAL]
    config = re.sub(r'"path:[^"]*"', f'"path:{snapshot}"', config)
    (folder / "mine.yaml").write_text(config, encoding="utf-8")
    more = "".join(f"word{letter}{number},{number}\n" for letter in "abcdefghijkl" for number in range(9))
    (folder / "last_letter.csv").write_text(rows + more, encoding="utf-8")
    (folder / "more-seeds.yaml").write_text("training: {seeds: [0, 1, 2, 3]}\n", encoding="utf-8")

"""Five jobs on function vectors: this project, nnsight, TransformerLens, pyvene and plain hooks.

The jobs: mean outputs of all heads over few-shot prompts; the causal effect of every head on every prompt;
the vector of the ten heads with the largest effects; zero-shot accuracy with it added after each layer;
greedy text with it added at new tokens. Each side is a file in ``five_jobs_sides``, written as a user of the
tool would, with its batched forms. It runs in a process of its own, one after the other. All get the same
prompts and have to find the same numbers. Lines are those of the files without blank ones, comments and
docstrings.
"""

from __future__ import annotations

import ast
import importlib.util
import io
import json
import subprocess
import sys
import tempfile
import time
import tokenize
from importlib.metadata import version
from pathlib import Path

import pandas as pd
import torch
from _common import UserError, main, parser, put, start, task_frame

from anamnesis.core.artifacts import write_text
from anamnesis.data.prompts import Template
from anamnesis.vectors.icl import PromptPlan, build_prompts, encode_questions

FOLDER = Path(__file__).parent / "five_jobs_sides"
SIDES = {  # file -> (name, package)
    "ours": ("Anamnesis", "anamnesis"),
    "nnsight_side": ("nnsight", "nnsight"),
    "transformer_lens_side": ("TransformerLens", "transformer-lens"),
    "pyvene_side": ("pyvene", "pyvene"),
    "plain_hooks": ("plain hooks, as Todd et al.", "transformers"),
}
JOBS = {
    "mean_activations": "mean outputs of all heads, {few} few-shot prompts",
    "causal_effects": "causal effect of {heads} heads, {shuffled} prompts",
    "function_vector": "function vector of ten heads",
    "accuracy_by_layer": "zero-shot accuracy at each of {layers} layers, {zero} prompts",
    "steer": "20 new tokens, steered, {free} prompts",
}
TASK, LAYER, SCALE = "past_tense", 9, 0.2
FREE = ["Yesterday I met", "Every morning the children", "The old man said that", "In the garden there"]
FREE += ["She opened the box and", "When the train arrived, we", "Nobody knew why", "After the long winter,"]
SAME = 1e-4  # largest difference of numbers


# ---------------------------------------------------------------- one side, in a process of its own


def run_side(name: str, given: Path, found: Path) -> int:
    """Do the five jobs with the file ``name`` of ``five_jobs_sides/``, and write results and seconds."""
    sys.path.insert(0, str(FOLDER))
    side, what = importlib.import_module(name), json.loads(given.read_text())
    torch.set_num_threads(what["threads"])
    tool, times, results = side.load(what["model"]), {}, {}
    side.mean_activations(tool, what["few"][:2], what["few_targets"][:2])  # what is loaded on first use

    clock = time.process_time if what["clock"] == "processor" else time.perf_counter

    def job(key: str, *arguments) -> object:
        begin = clock()
        results[key] = getattr(side, key)(tool, *arguments)
        times[key] = clock() - begin
        return results[key]

    mean = job("mean_activations", what["few"], what["few_targets"])
    effect = job("causal_effects", what["shuffled"], what["shuffled_targets"], mean)
    vector = job("function_vector", mean, effect)
    job("accuracy_by_layer", what["zero"], what["zero_targets"], vector)
    job("steer", FREE, SCALE * vector, LAYER)
    numbers = {key: x.tolist() if isinstance(x, torch.Tensor) else x for key, x in results.items()}
    found.write_text(json.dumps({"seconds": times, "results": numbers}))
    return 0


# ---------------------------------------------------------------- what all sides are given


@torch.no_grad()
def material(model, tokenizer, options) -> dict:
    """Prompts and first tokens of their answers. Few-shot prompts are some that the model answers rightly."""
    frame = task_frame(TASK, options, options.zero)
    plan = PromptPlan(options.shots, 4 * options.few, options.shuffled, include_instruction=False)
    prompts = build_prompts(frame, TASK, plan, Template(), options.seed)
    clean, shuffled = (prompts[prompts.kind == kind] for kind in ("clean", "shuffled"))
    right = [
        row.Index
        for row, question in zip(clean.itertuples(), encode_questions(tokenizer, clean), strict=True)
        if model(torch.tensor([question.context])).logits[0, -1].argmax() == question.continuations[0][0]
    ]
    if len(right) < options.few:
        raise UserError(f"the model answers {len(right)} of {len(clean)} prompts: lower --few")
    asked = frame[frame.split == "test"].iloc[: options.zero]
    zero = pd.DataFrame(
        {"text": [Template().render(None, [], x) for x in asked.input], "target": asked.target}
    )
    zero = zero.assign(before_answer=Template().before_answer, choices=None)
    given = {"model": str(options.model.resolve()), "threads": options.threads, "clock": options.clock}
    for key, rows in (("few", clean.loc[right[: options.few]]), ("shuffled", shuffled), ("zero", zero)):
        given[key] = rows.text.tolist()
        given[f"{key}_targets"] = [q.continuations[0][0] for q in encode_questions(tokenizer, rows)]
    return given


# ---------------------------------------------------------------- the table


def code_lines(file: Path) -> dict[str, int]:
    """Lines of each job, and of the "rest" of a file (imports, loading, helpers)."""
    text = file.read_text(encoding="utf-8")
    blank = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT)
    tokens = [t for t in tokenize.generate_tokens(io.StringIO(text).readline) if t.type not in blank]
    rows = {row for t in tokens for row in range(t.start[0], t.end[0] + 1) if t.string}
    tree = ast.parse(text)
    if ast.get_docstring(tree):
        rows -= set(range(tree.body[0].lineno, tree.body[0].end_lineno + 1))
    lines = {}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name in JOBS:
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            lines[node.name] = len(rows & set(range(first, node.end_lineno + 1)))
    return lines | {"rest": len(rows) - sum(lines.values())}


def gap(mine: object, other: object) -> float:
    """Largest difference of two results; infinite for texts that differ."""
    if isinstance(mine[0], str):
        return 0.0 if mine == other else float("inf")
    return float((torch.tensor(mine) - torch.tensor(other)).abs().max())


def short(number: float) -> str:
    """A number with two digits that count, such as 110 or 0.0024."""
    return f"{float(f'{number:.2g}'):g}"


def table(sides: dict[str, dict], lines: dict[str, dict[str, int]], words: dict[str, str]) -> str:
    """Markdown: lines and seconds of each side and job; in brackets, how many times ours."""
    rows = ["| job | " + " | ".join(SIDES[name][0] for name in sides) + " |", "|---" * (len(sides) + 1) + "|"]
    for key, title in words.items():
        cells = []
        for name, side in sides.items():
            took, mine = side["seconds"][key], sides["ours"]["seconds"][key]
            times = "" if name == "ours" else f" ({short(took / mine)}×)"
            cells.append(f"{lines[name][key]} lines, {short(took)} s{times}")
        rows.append(f"| {title} | " + " | ".join(cells) + " |")
    rest = [f"{lines[name]['rest']} lines" for name in sides]
    rows.append("| imports, loading, helpers | " + " | ".join(rest) + " |")
    total = [
        f"{sum(lines[name].values())} lines, {sum(side['seconds'].values()):.3g} s"
        for name, side in sides.items()
    ]
    rows.append("| all | " + " | ".join(total) + " |")
    return "\n".join(rows) + "\n"


def present(name: str) -> bool:
    """Whether the tool of a side is installed; otherwise one line says so."""
    package = SIDES[name][1]
    if importlib.util.find_spec(package.replace("-", "_")):
        return True
    print(
        f"{package} is not installed and left out: pip install {package}, best in an environment of its own"
    )
    return False


def run() -> int:
    if sys.argv[1:2] == ["--side"]:
        return run_side(sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4]))
    options = parser(__doc__.splitlines()[0])
    for name, count, what in (
        ("few", 8, "few-shot prompts"),
        ("shuffled", 2, "prompts of the sweep"),
        ("zero", 8, "zero-shot prompts"),
        ("shots", 3, "demonstrations"),
    ):
        options.add_argument(f"--{name}", type=int, default=count, help=f"{what} (default: %(default)s)")
    clocks = {"choices": ["wall", "processor"], "default": "wall"}
    options.add_argument(
        "--clock", **clocks, help="processor: its seconds, for a busy computer, with --threads 1"
    )
    options.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES), help="those to run")
    options.add_argument("--write", type=Path, help="a page to put the table on")
    options = options.parse_args()
    options.threads = 1 if options.clock == "processor" else options.threads
    model, tokenizer = start(options)
    config, given = model.config, material(model, tokenizer, options)
    del model
    sizes = {"few": options.few, "shuffled": options.shuffled, "zero": options.zero, "free": len(FREE)}
    sizes |= {
        "layers": config.num_hidden_layers,
        "heads": config.num_hidden_layers * config.num_attention_heads,
    }
    sides: dict[str, dict] = {}
    with tempfile.TemporaryDirectory() as folder:
        file, found = Path(folder) / "given.json", Path(folder) / "found.json"
        file.write_text(json.dumps(given))
        for name in filter(present, dict.fromkeys(["ours", *options.sides])):
            subprocess.run([sys.executable, __file__, "--side", name, file, found], check=True)
            sides[name] = json.loads(found.read_text())
            print(
                f"{SIDES[name][1]} {version(SIDES[name][1])}: {sum(sides[name]['seconds'].values()):.1f} s",
                flush=True,
            )
    words = {key: title.format(**sizes) for key, title in JOBS.items()}
    text = table(sides, {name: code_lines(FOLDER / f"{name}.py") for name in sides}, words)
    print(text)
    if options.write:
        write_text(options.write, put(options.write.read_text(encoding="utf-8"), "five jobs", text))
    return int(differing(sides) > 0)


def differing(sides: dict[str, dict]) -> int:
    """Print how far results are from ours, and count those that are too far."""
    count = 0
    for name, side in sides.items():
        gaps = {key: gap(sides["ours"]["results"][key], side["results"][key]) for key in JOBS}
        wrong = [key for key, value in gaps.items() if value > SAME]
        shown = ", ".join(f"{key} {value:.1g}" for key, value in gaps.items())
        print(f"{SIDES[name][0]}: largest differences {shown}{' MISSED' if wrong else ''}")
        count += len(wrong)
    return count


if __name__ == "__main__":
    main(run)

"""Changed answers with texts that try to become markup, for tests of the report."""

import itertools

import pandas as pd

from anamnesis.report.answers import Answers
from anamnesis.stats.answer_changes import KINDS
from anamnesis.stats.vector_recovery import MEAN

HOSTILE = [
    "</script><img src=x onerror=\"window.hacked='end of script'\">",
    "<img src=x onerror=\"window.hacked='image'\">",
    "<!--<script>window.hacked='comment'</script>",
    "{{ constructor.constructor('window.hacked=1')() }} ${window.hacked='template'}",
    "javascript:window.hacked='address'",
    "\u2028'\"&lt;b&gt; NaN",
]
COURSES = {
    "lost": "right wrong wrong",
    "returned": "right wrong right",
    "gained": "wrong – right",
    "passing": "wrong right wrong",
}
QUESTIONS = 60  # of a chain, set and form: more than a page of the table shows


def _rows(method, seed, name, form, shots):
    role = "held_out" if name == "x" else "train_task"
    keys = {
        "method": method,
        "order": 1,
        "seed": seed,
        "set": name,
        "role": role,
        "form": form,
        "shots": shots,
    }
    for k in range(QUESTIONS):
        kind, text = list(COURSES)[k % len(COURSES)], HOSTILE[k % len(HOSTILE)]
        guided = (
            {"guided": f"guided {k}", "guided_is": "right"}
            if method == "inclora"
            else {"guided": "", "guided_is": ""}
        )
        vector = {"with_vector": ("right", "wrong", "")[k % 3] if shots == 0 else ""}
        yield keys | guided | vector | {
            "example_id": f"test-{k:04}", "kind": kind, "course": COURSES[kind],
            "instruction": f"Do as told: {HOSTILE[0]}", "question": f"question {k} of seed {seed}: {text}",
            "target": f"target {text}", "before": f"before {text}", "stage_1": "", "stage_2": f"after {text}",
        }  # fmt: skip


def hostile_answers() -> Answers:
    """Two methods, two seeds, a training task and a held-out set in two forms."""
    places = itertools.product(("inclora", "inclora-ivg"), (0, 1), ("a", "x"), ("instruction",), (0, 5))
    changes = pd.DataFrame([row for place in places for row in _rows(*place)])
    keys = ["method", "order", "seed", "set", "role", "form", "shots"]
    shares = changes.groupby([*keys, "kind"], sort=False).size().unstack(fill_value=0)
    shares = shares.reindex(columns=list(KINDS), fill_value=0).assign(kept=QUESTIONS)
    shares = shares.assign(n=shares.sum(axis=1)).reset_index()
    counts = pd.DataFrame(
        [
            (m, n, "held_out", "instruction", k, answer, 10, 20, 30, lost, 30)
            for m in ("inclora", "inclora-ivg")
            for n in ("a", "x")
            for k in (0, 5)
            for answer, lost in ((HOSTILE[0], 30), ("other", 0))
        ],
        columns=[
            "method", "set", "role", "form", "shots", "answer", "target", "before", "after", "lost_to",
            "lost",
        ],
    )  # fmt: skip
    gain = {"method": "inclora", "after": 0.4, "added": 0.6, "n": 2}
    gains = pd.DataFrame([gain | {"set": name} for name in ("x", MEAN)])
    return Answers(changes, shares, counts, [["a", "b"]], gains)

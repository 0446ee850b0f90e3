"""The report: self-contained, escaped, and its sentences follow the numbers whichever way they point."""

import html.parser
import json
import re
import shutil
from base64 import b64encode
from dataclasses import replace
from hashlib import sha256

import pandas as pd
import pytest

from anamnesis.core.errors import UserError
from anamnesis.figures.bars import summary_bars
from anamnesis.figures.style import save_figure
from anamnesis.report import (
    ExperimentResults,
    Picture,
    Section,
    Table,
    build_report,
    experiment_sections,
    sentences,
)
from anamnesis.report.first_screen import first_numbers, first_paragraphs
from anamnesis.report.run_facts import flatten, shown
from anamnesis.stats.held_out import held_out_table
from anamnesis.stats.summary import BASELINE, MEASURES, chain_measures, curves_frame, table1
from report_chains import both_methods, chain, intervened, ranked_heads


@pytest.fixture
def chains():
    return both_methods()


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """A real figure, drawn once: drawing takes longer than all the rest."""
    measures = chain_measures([chain("inclora", 0, 0.2), chain("inclora-ivg", 0, 0.3)])
    return save_figure(summary_bars(measures), measures, tmp_path_factory.mktemp("drawn") / "summary")[1]


@pytest.fixture
def results(chains, drawn, tmp_path):
    measures = chain_measures(chains)
    png = tmp_path / "out" / "figures" / "summary.png"
    png.parent.mkdir(parents=True)
    shutil.copy(drawn, png)
    record = {
        "rule": "train_stage",
        "seconds": 30.0,
        "versions": {"torch": "2.13.0"},
        "params": {"secret": "long"},
    }
    return ExperimentResults(
        config={
            "model": {"name": "tiny <model>"},
            "suite": {"orders": [["a", "b"]], "held_out": ["x"]},
            "training": {"seeds": [0, 1], "epochs": 1},
            "vectors": {"rank_by": "probability"},
        },
        table=table1(measures, resamples=200),
        curves=curves_frame(chains),
        heads=ranked_heads(),
        interventions=intervened(),
        figures={"summary": png},
        held_out=held_out_table(chains, {}, resamples=200),
        records={"stage1": record, "stage2": {**record, "seconds": 60.0}},
        prompts=pd.DataFrame([("x", "clean", "<script>alert(1)</script> & so on", " up")],
                             columns=["task", "kind", "text", "target"]),
        links={"CSV": tmp_path / "out" / "my table#1.csv"},
    )  # fmt: skip


class Page(html.parser.HTMLParser):
    """Tags in order, addresses, text, and a check that every element is closed."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.addresses, self.text, self.scripts = [], [], [], [], []
        self.policy = ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        if tag == "script":
            self.scripts.append([dict(attributes)["type"], ""])
        self.addresses += [value for name, value in attributes if name in ("src", "href")]
        if ("http-equiv", "Content-Security-Policy") in attributes:
            self.policy = dict(attributes)["content"]
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.scripts[-1][1] += data
        else:
            self.text.append(data)

    def run(self):
        """The scripts that a browser runs: those whose digest the policy of the page allows."""
        digests = re.findall(r"'sha256-([^']+)'", self.policy)
        return [
            text
            for kind, text in self.scripts
            if kind == "module" and b64encode(sha256(text.encode()).digest()).decode() in digests
        ]


def build(results, tmp_path):
    path = build_report(
        experiment_sections(results), tmp_path / "out" / "report.html", "A <run>", "two seeds"
    )
    return path, Page(path.read_text(encoding="utf-8"))


def test_report_is_one_offline_file(results, tmp_path):
    _, page = build(results, tmp_path)
    assert "link" not in page.tags
    assert len(page.run()) == len([kind for kind, _ in page.scripts if kind == "module"]) == 1
    assert "unsafe-eval" not in page.policy
    for address in page.addresses:
        assert re.match(r"#[a-z0-9-]+$|\./|data:image/png;base64,", address), address[:60]
    assert page.tags.count("img") == 1


def test_links_are_relative_to_the_report(results, tmp_path):
    _, page = build(results, tmp_path)
    files = [address for address in page.addresses if address.startswith("./")]
    assert files == [
        "./figures/summary.pdf",
        "./figures/summary.png",
        "./figures/summary.csv",
        "./my%20table%231.csv",
    ]


def test_text_is_escaped_and_complete(results, tmp_path):
    path, page = build(results, tmp_path)
    raw = path.read_text(encoding="utf-8")
    assert "<script>" not in raw
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; so on" in raw
    text = " ".join(page.text)
    assert "tiny <model>" in text
    assert "a → b" in text
    assert "secret" not in text
    assert "1.5 minutes" in text
    assert "40.0 ± 8.5 (n=2)" in text.replace("\u00a0", " ")


def test_hostile_text_makes_no_element_and_leaves_no_place_to_go(tmp_path):
    hostile = "</pre></style><img src=x onerror=alert(1)>\"'><script>{{ 7 * 7 }}</script>&lt;"
    section = Section(
        hostile,
        paragraphs=[hostile],
        tables=[Table([hostile], [[hostile]], hostile, folded=True)],
        passages=[(hostile, hostile)],
        links={hostile: tmp_path / "javascript:alert(1)"},
    )
    page = Page(build_report([section], tmp_path / "r.html", hostile, hostile).read_text(encoding="utf-8"))
    assert "img" not in page.tags
    assert len(page.run()) == len(page.scripts) == 1
    assert page.addresses[-1] == "./javascript%3Aalert%281%29"
    assert hostile in "".join(page.text)
    assert page.policy.startswith("default-src 'none'")


def test_data_for_scripts_is_json_without_an_end_of_its_element(drawn, tmp_path):
    hostile = "</script><img src=x onerror=alert(1)><!-- & \u2028"
    section = Section(
        "s", answers={"texts": [hostile]}, pictures=[Picture(drawn, "", "", chart={"a": hostile})]
    )
    page = Page(build_report([section], tmp_path / "r.html", "t").read_text(encoding="utf-8"))
    data = [json.loads(text) for kind, text in page.scripts if kind == "application/json"]
    assert data == [{"texts": [hostile]}, {"a": hostile}]
    assert page.tags.count("img") == 1
    assert len(page.run()) == 4  # the library of charts and three files of ours


def test_a_section_is_a_title_and_paragraphs_first(tmp_path):
    page = build_report([Section("T", ["first", "second"])], tmp_path / "r.html", "t").read_text()
    assert "<p>first</p>\n<p>second</p>" in page


def test_same_input_gives_the_same_bytes(results, tmp_path):
    first = build(results, tmp_path)[0].read_bytes()
    assert build(results, tmp_path)[0].read_bytes() == first


def test_report_without_optional_parts(results, tmp_path):
    bare = ExperimentResults(results.config, results.table, results.curves, results.heads, {})
    titles = [section.title for section in experiment_sections(bare)]
    assert titles == [
        "What is forgotten", "Table 1", "Instruction vectors", "Words used here", "What was run",
    ]  # fmt: skip
    build(bare, tmp_path)


def test_the_first_screen_comes_first_with_its_picture_and_the_start(results):
    record = {
        "tasks": ["x"],
        "examples": {"x": 12},
        "accuracy_before": {"x": 0.05},
        "accuracy_after": {"x": 0.5},
    }
    tuned = replace(results, records={**results.records, "tiny/tuned/tuning": record})
    for given in (results, tuned):
        first, second, *_ = experiment_sections(given)
        assert (first.title, second.title) == (
            "What was lost, what stayed, what guidance changed",
            "What is forgotten",
        )
        assert [picture.png for picture in first.pictures] == [results.figures["summary"]]
        assert first.numbers == first_numbers(results.held_out, results.table)
        assert "from 50.0\u00a0% to 30.0\u00a0%" in first.numbers[0].sentence
        assert second.paragraphs[:2] == first_paragraphs(results.held_out, results.table)[:2]
        assert ("The model before training" in dict(first.terms)) is (given is tuned)
    empty = replace(results, held_out=results.held_out.iloc[:0])
    assert experiment_sections(empty)[0].title == "What is forgotten"


def test_published_table_in_the_repository_is_shown(results, pytestconfig):
    reference = pd.read_csv(pytestconfig.rootpath / "workflow" / "reference" / "paper_table1.csv")
    assert reference["source"].notna().all()
    assert set(reference["benchmark"]) == {"trace", "long", "func"}
    bare = ExperimentResults(
        results.config, results.table, results.curves, results.heads, {}, reference=reference
    )
    section = next(part for part in experiment_sections(bare) if part.title == "Published numbers")
    assert section.folded
    compared, directions, published = section.tables
    assert [row[0] for row in compared.rows] == [BASELINE, "inclora", "inclora + IVG"]
    assert [row[0] for row in directions.rows] == ["inclora"]
    rows = published.rows
    assert ["func", "inclora-ivg", "54.36", "53.89", "69.48", ""] in [list(row) for row in rows]


def test_bad_report_input_is_refused_and_leaves_nothing(tmp_path):
    out = tmp_path / "report.html"
    with pytest.raises(UserError, match="no section"):
        build_report([], out, "t")
    with pytest.raises(UserError, match="same title"):
        build_report([Section("One"), Section("one")], out, "t")
    with pytest.raises(UserError, match=r"missing\.png cannot be read"):
        build_report([Section("One", pictures=[Picture(tmp_path / "missing.png", "", "")])], out, "t")
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(UserError, match="is not a PNG"):
        build_report([Section("One", pictures=[Picture(tmp_path / "text.png", "", "")])], out, "t")
    assert not out.exists()


def test_tables_keep_their_rows(tmp_path):
    path = build_report(
        [Section("T", tables=[Table(["a", "b"], [["x", 1], ["y", 2]], "note")])], tmp_path / "r.html", "t"
    )
    assert Page(path.read_text()).tags.count("tr") == 3


def difference(low, high, n, measure="ip"):
    rows = [("difference", "m", "m-ivg", measure, (low + high) / 2, 0.1, n, low, high, 0.95, "BCa")]
    names = [
        "kind",
        "method",
        "guided",
        "measure",
        "mean",
        "sd",
        "n",
        "low",
        "high",
        "confidence",
        "interval",
    ]
    return sentences.difference_sentences(pd.DataFrame(rows, columns=names), measure)[0].replace(
        "\u00a0", " "
    )


@pytest.mark.parametrize(
    ("low", "high", "n", "measure", "said"),
    [
        (0.1, 0.2, 8, "ip", "guidance did better; the interval excludes zero."),
        (-0.2, -0.1, 8, "ip", "guidance did worse; the interval excludes zero."),
        (-0.1, 0.2, 8, "ip", "the interval contains zero, so no difference is shown."),
        (0.1, 0.2, 8, "forgetting", "guidance did worse; the interval excludes zero."),
        (-0.2, -0.1, 8, "forgetting", "guidance did better; the interval excludes zero."),
        (0.1, 0.2, 2, "ip", "guidance did better in these runs, but with 2 pairs this is weak evidence."),
        (-0.2, -0.1, 2, "op", "guidance did worse in these runs, but with 2 pairs this is weak evidence."),
        (0.0, 0.0, 2, "ip", "the interval contains zero, so no difference is shown."),
    ],
)
def test_verdict_follows_the_interval(low, high, n, measure, said):
    assert difference(low, high, n, measure).endswith(said)


def test_one_or_no_pair_is_said():
    assert difference(0.1, 0.1, 1).endswith(
        "(n = 1 pair, no interval): one pair says nothing about other seeds."
    )
    assert difference(0.1, 0.1, 0).endswith("nothing can be compared.")
    assert "+15.0 points (95 % interval +10.0 points to +20.0 points, n = 8 pairs)" in difference(0.1, 0.2, 8)


def test_level_sentence_fills_in_measured_numbers(results):
    text = sentences.level_sentence(results.table, "ip").replace("\u00a0", " ")
    assert text == (
        "In-context accuracy on held-out sets (IP) was 70.0 % before training and is 18.0 % with inclora "
        "(n = 2) and 40.0 % with inclora-ivg (n = 2) after the last stage."
    )


def test_of_many_methods_the_lowest_and_the_highest_are_named():
    rows = [("level", f"m{i}", "ip", i / 10, 3) for i in (3, 1, 5, 2, 4)] + [
        ("level", "before training", "ip", 0.7, 1)
    ]
    table = pd.DataFrame(rows, columns=["kind", "method", "measure", "mean", "n"])
    text = sentences.level_sentence(table, "ip").replace("\u00a0", " ")
    assert text.endswith(
        "was 70.0 % before training and lies between 10.0 % with m1 (n = 3) and 50.0 % with m5 (n = 3) after "
        "the last stage."
    )


def test_curve_and_form_sentences(results):
    moved, _ = (text.replace("\u00a0", " ") for text in sentences.curves_sentences(results.curves))
    assert moved.startswith(
        "inclora: 5-shot accuracy is lower after the last stage than before training on 1 of 1"
    )
    assert "x (−52.0 points)" in moved
    forms = sentences.forms_sentences(results.curves)[0].replace("\u00a0", " ")
    assert (
        "instruction accuracy went from 50.0 % to 30.0 % and knowledge accuracy from 50.0 % to 52.0 %"
        in forms
    )
    without = results.curves[results.curves["form"] != "knowledge"]
    assert sentences.forms_sentences(without) == []


def test_of_many_methods_the_curves_and_forms_get_one_sentence():
    after = {"a": 0.4, "b": 0.3, "c": 0.6, "d": 0.2, "e": 0.5}
    keys = {"role": "held_out", "set": "x", "shots": 5, "form": "instruction"}
    rows = [
        keys | {"method": m, "stage": i, "value": v}
        for m, end in after.items()
        for i, v in ((0, 0.5), (1, end))
    ]
    (moved,) = sentences.curves_sentences(pd.DataFrame(rows))
    assert "in 3 of 5 pairs of a method and a held-out set" in moved
    assert moved.replace("\u00a0", " ").endswith("most often on x (3 of 5 methods, −10.0 points on average).")
    forms = [row | {"shots": 0} for row in rows]
    forms += [row | {"form": "knowledge", "value": 0.5} for row in forms]
    (said,) = sentences.forms_sentences(pd.DataFrame(forms))
    assert "instruction accuracy fell with 3 of 5 methods, and moved by −10.0 points" in said.replace(
        "\u00a0", " "
    )
    assert "knowledge accuracy fell with 0 of 5 methods, and moved by +0.0 points" in said.replace(
        "\u00a0", " "
    )


def test_a_difference_that_rounds_to_nothing_has_no_minus_sign():
    assert sentences.points(-0.0002).replace("\u00a0", " ") == "+0.0 points"
    assert sentences.percent(-0.0002).replace("\u00a0", " ") == "0.0 %"


def test_values_of_the_configuration_are_shown_as_they_are():
    assert [shown(v) for v in (0, 1, True, False, None, [0, 1], [], 0.001)] == [
        "0", "1", "yes", "no", "–", "0, 1", "none", "0.001"]  # fmt: skip
    assert flatten({"a": {"b": 1, "c": {}}, "d": "x"}) == [("a.b", "1"), ("a.c", "{}"), ("d", "x")]


def test_measures_all_have_words():
    assert set(sentences.MEASURE_NAMES) == set(MEASURES)

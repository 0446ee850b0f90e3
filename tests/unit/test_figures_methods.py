"""Figures and tables that compare methods: guidance, variants and settings, the published numbers."""

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from scipy import stats

from anamnesis.config.load import load_config
from anamnesis.config.variants import paired_comparisons, variant_comparisons, variant_differences
from anamnesis.core.errors import UserError
from anamnesis.figures.guidance_effect import guidance_effect
from anamnesis.figures.measures import TITLES
from anamnesis.figures.paired_differences import comparisons, comparisons_frame
from anamnesis.figures.style import WIDTH, method_colour, save_figure
from anamnesis.figures.variant_panels import variants, variants_frame
from anamnesis.report.sentences import guidance_sentences, variants_sentences
from anamnesis.stats.paper_table import published_cells, published_markdown
from anamnesis.stats.summary import BASELINE, table1

EIGHT = ["inclora", "seqlora", "ewc", "lwf", "olora", "replay", "fvg", "jfa"]
PAIRED = [name + suffix for name in EIGHT for suffix in ("", "-ivg")]


def measures(methods, seeds=3, orders=1, gain=0.0):
    """Chains of ``methods`` before which the untrained model stands; guided ones lie ``gain`` higher."""
    generator = np.random.default_rng(0)
    rows = [(BASELINE, pd.NA, pd.NA, 0.3, 0.5, 0.1, np.nan, np.nan)]
    for method, order, seed in (
        (m, k, s) for m in methods for k in range(1, orders + 1) for s in range(seeds)
    ):
        level = generator.uniform(0.3, 0.6, 4) + gain * method.endswith("-ivg")
        rows.append((method, order, seed, *level, -level[3]))
    names = ["method", "order", "seed", "hp", "ip", "op", "forgetting", "bwt"]
    return pd.DataFrame(rows, columns=names).astype({"order": "Int64", "seed": "Int64"}).assign(scorer="sum")


@pytest.fixture
def experiment(pytestconfig):
    """A function that reads the experiment on methods, with those whose names begin as said."""
    files = [pytestconfig.rootpath / name for name in ("config.yaml", "workflow/experiments/methods.yaml")]
    listed = load_config(files).training.methods

    def read(*beginnings):
        names = [name for name in listed if name.startswith(beginnings)]
        return load_config([*files, {"training": {"methods": names, "every_order": None}}])

    return read


def compared(config):
    return variants_frame(measures(config.training.methods), variant_comparisons(config))


def panels(figure):
    return {axes.get_title(loc="left").strip(): axes for axes in figure.axes}


def drawn_texts(figure):
    """Everything written on a figure but the numbers on axes, which matplotlib itself keeps apart."""
    figure.canvas.draw()
    ticks = {
        id(label) for axes in figure.axes for label in (*axes.get_xticklabels(), *axes.get_yticklabels())
    }
    found = figure.findobj(matplotlib.text.Text)
    return [
        text for text in found if text.get_text().strip() and text.get_visible() and id(text) not in ticks
    ]


def test_differences_come_from_the_configuration(experiment):
    found = variant_differences(experiment("inclora", "jfa"))
    assert found["jfa-8"] == {"methods.jfa.flashbacks": 8}
    assert found["jfa-no-latent"] == {"methods.jfa.latent_tasks": False}
    assert "lwf-kl" not in found  # known, but not listed
    controls = variant_differences(experiment("inclora", "lwf", "ivg"))
    assert controls["ivg-no-kl"] == {"guidance.kl.weight": 0.0}
    assert controls["lwf-kl"]["methods.lwf.positions"] == "all"
    assert "methods.lwf.temperature" not in controls["lwf-kl"]  # given, but the same


def test_numbers_stand_together_and_the_rest_by_name(experiment):
    frame = pd.DataFrame(variant_comparisons(experiment("inclora", "jfa")))
    groups = {key: part for key, part in frame.groupby(frame["setting"].fillna(""), sort=False)}
    assert groups["methods.jfa.flashbacks"]["value"].tolist() == [0, 8, 32]
    assert groups["methods.jfa.flashbacks"]["method"].tolist()[-1] == "jfa"
    assert groups["methods.jfa.alpha"]["method"].tolist() == ["jfa-alpha-0.1", "jfa", "jfa-alpha-10"]
    assert groups[""]["method"].tolist() == ["jfa", "jfa-no-latent"]
    controls = pd.DataFrame(variant_comparisons(experiment("inclora", "lwf", "ivg")))
    assert controls["setting"].isna().all()  # weights 0 and 0.05 of a divergence make no curve
    names = controls.loc[controls["base"] == "inclora-ivg", "method"].tolist()
    assert names[:3] == ["inclora-ivg", "inclora", "ivg-random-heads"]


def small(variants, methods):
    return load_config(
        {
            "suite": {"name": "s", "orders": [["a", "b"]], "held_out": ["c"]},
            "interventions": {"sets": []},
            "training": {"methods": methods},
            "variants": variants,
        },
        ["a", "b", "c"],
    )


def test_settings_that_are_no_numbers_make_no_curve():
    given = {"v1": {"of": "fvg", "settings": {"layer": 1}}, "v2": {"of": "fvg", "settings": {"layer": 2}},
             "v3": {"of": "fvg", "settings": {"layer": 3}}}  # fmt: skip
    rows = variant_comparisons(small(given, ["fvg", *given]))  # the method's own layer is null
    assert [row["setting"] for row in rows] == [None] * 4
    stages = {"o": {"of": "olora", "settings": {"lambda1": [0.1, 0.2]}}}
    both = small(stages, ["o", "olora"])
    assert [row["method"] for row in variant_comparisons(both)] == ["olora", "o"]
    assert variant_comparisons(small(stages, ["o"])) == []  # compared with what?
    assert variant_comparisons(small(stages, ["olora"])) == []


def test_rank_of_an_adapter_has_one_name():
    given = {f"e{rank}": {"of": "ewc", "settings": {"rank": rank}} for rank in (4, 16)}
    rows = variant_comparisons(small(given, ["ewc", *given]))
    assert [(row["setting"], row["method"], row["value"]) for row in rows] == [
        ("training.lora.rank", "e4", 4),
        ("training.lora.rank", "ewc", 8),
        ("training.lora.rank", "e16", 16),
    ]


def test_twins_draw_each_pair_of_chains_in_its_colours():
    data = measures(["ewc", "ewc-ivg", "jfa", "jfa-ivg", "fvg"])
    figure = guidance_effect(data, resamples=50)
    axes = panels(figure)["IP: held-out, few-shot"]
    for method, style in (("ewc", "none"), ("ewc-ivg", "full"), ("jfa", "none")):
        points = [
            line.get_xdata()[0]
            for line in axes.get_lines()
            if line.get_marker() == "o" and line.get_fillstyle() == style
            and to_hex(line.get_color()) == method_colour(method)
        ]  # fmt: skip
        assert sorted(points) == pytest.approx(sorted(100 * data.loc[data["method"] == method, "ip"]))
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["ewc\nn = 3", "jfa\nn = 3"]


def test_twins_say_the_paired_difference_and_its_interval():
    data = measures(["lwf", "lwf-ivg"], gain=0.1)
    found = table1(data, resamples=300)
    row = found[(found["kind"] == "difference") & (found["measure"] == "op")].iloc[0]
    expected = f"{100 * row['mean']:+.1f} [{100 * row['low']:+.1f}, {100 * row['high']:+.1f}]"
    written = [
        text.get_text() for text in panels(guidance_effect(data, resamples=300))["OP: training tasks"].texts
    ]
    assert written == [expected.replace("-", "−")]
    two = panels(guidance_effect(measures(["lwf", "lwf-ivg"], seeds=2)))["OP: training tasks"].texts
    assert "[" not in two[0].get_text()
    one = guidance_effect(data[(data["method"] == "lwf") | (data["seed"] == 1)])
    assert [label.get_text() for label in one.axes[0].get_yticklabels()] == ["lwf\nn = 1"]


def test_several_orders_have_marks_of_their_own():
    axes = panels(guidance_effect(measures(["lwf", "lwf-ivg"], orders=2), resamples=50))["OP: training tasks"]
    assert {line.get_marker() for line in axes.get_lines()} >= {"o", "s"}


def test_forgetting_is_left_out_where_it_is_not_defined():
    data = measures(["lwf", "lwf-ivg"]).assign(forgetting=np.nan, bwt=np.nan)
    assert "Forgetting (less is better)" not in panels(guidance_effect(data, resamples=50))


def test_variants_draw_means_against_ranks_of_the_setting(experiment):
    data = compared(experiment("inclora", "jfa"))
    figure = variants(data)
    axes = figure.axes[1]  # flashbacks, IP
    curve = next(line for line in axes.get_lines() if len(line.get_xdata()) == 3)
    part = data[data["setting"] == "methods.jfa.flashbacks"]
    assert list(curve.get_xdata()) == [0, 1, 2]
    assert curve.get_ydata() == pytest.approx(100 * part.groupby("value")["ip"].mean().to_numpy())
    labels = axes.get_xticklabels()
    assert [label.get_text() for label in labels] == ["0", "8", "32"]
    assert [label.get_fontweight() for label in labels] == ["normal"] * 2 + ["bold"]
    points = [p for c in axes.collections for p in c.get_offsets() if len(c.get_offsets()) == 3]
    assert sorted(p[1] for p in points) == pytest.approx(sorted(100 * part["ip"]))
    heads = {text.get_text() for text in drawn_texts(figure)}
    assert {"jfa: flashbacks", "jfa: alpha", "jfa: other settings"} <= heads


def test_variants_are_compared_in_the_orders_and_seeds_that_all_have(experiment):
    config = experiment("inclora", "lwf", "ivg")
    table = measures(config.training.methods)
    elsewhere = table[table["method"] == "lwf"].assign(order=2, hp=0.0)
    both = variants_frame(pd.concat([table, elsewhere]), variant_comparisons(config))
    pd.testing.assert_frame_equal(both, compared(config))
    apart = pd.concat([table[table["method"] != "lwf"], elsewhere])
    lwf = variants_frame(apart, variant_comparisons(config)).query("base == 'lwf'")
    assert set(zip(lwf["method"], lwf["order"], strict=True)) == {("lwf", 2), ("lwf-kl", 1)}


def test_variants_by_name_begin_with_the_method_and_mark_means(experiment):
    data = compared(experiment("inclora", "lwf", "ivg"))
    figure = variants(data)
    first = figure.axes[0]
    assert [label.get_text() for label in first.get_yticklabels()] == ["lwf", "lwf-kl"]
    marks = [line.get_xdata()[0] for line in first.get_lines() if line.get_linewidth() == 2]
    means = [100 * data.loc[data["method"] == name, "hp"].mean() for name in ("lwf", "lwf-kl")]
    assert marks == pytest.approx(means)
    same = [axes.get_xlim() for title, axes in zip(range(8), figure.axes, strict=True) if title % 4 == 0]
    assert same[0] == same[1]  # one scale for a measure


def differences(config, gain=0.0):
    return comparisons_frame(measures(config.training.methods, gain=gain), paired_comparisons(config))


def test_comparisons_draw_every_difference_its_mean_and_interval(experiment):
    config = experiment("inclora", "lwf", "ivg")
    data = differences(config, gain=0.1)
    figure = comparisons(data, resamples=50)
    assert [axes.get_title(loc="left").strip() for axes in figure.axes[:4]] == [*TITLES.values()]
    first, second, third = (figure.axes[k] for k in (0, 4, 8))  # HP of each kind
    assert [x.get_text() for x in first.get_yticklabels()] == ["inclora-ivg", "lwf-ivg"]
    assert [x.get_text() for x in second.get_yticklabels()] == ["lwf"]
    names = [x.get_text() for x in third.get_yticklabels()]
    assert names[:3] == ["lwf-kl − lwf", "lwf-kl − inclora", "ivg-random-heads − inclora-ivg"]
    assert "ivg-kl-only − lwf-kl" in names
    levels = measures(config.training.methods, gain=0.1).set_index("method")["hp"]
    pairs = levels["lwf"].to_numpy() - levels["inclora"].to_numpy()
    shown = sorted(x for x, _ in second.collections[0].get_offsets())
    assert shown == pytest.approx(sorted(100 * pairs))
    half = stats.t.ppf(0.975, 2) * stats.sem(pairs)
    low, high = next(line.get_xdata() for line in second.get_lines() if line.get_linewidth() == 1.6)
    assert (low, high) == pytest.approx((100 * (pairs.mean() - half), 100 * (pairs.mean() + half)))
    assert first.get_xlim() == second.get_xlim() == third.get_xlim()
    with pytest.raises(UserError, match="no two methods are compared"):
        comparisons(comparisons_frame(measures(["ewc"]), []))


FIGURES = {
    "comparisons": lambda experiment: comparisons(differences(experiment("")), resamples=50),
    "guidance_effect": lambda experiment: guidance_effect(measures(PAIRED), resamples=50),
    "two orders": lambda experiment: guidance_effect(measures(PAIRED[:4], orders=2), resamples=50),
    "numbers": lambda experiment: variants(compared(experiment("inclora", "jfa"))),
    "controls": lambda experiment: variants(compared(experiment("inclora", "lwf", "ivg"))),
}


@pytest.mark.parametrize("name", FIGURES)
def test_nothing_is_cut_off_and_no_words_overlap(name, experiment):
    figure = FIGURES[name](experiment)
    texts = drawn_texts(figure)
    box, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    assert width == WIDTH
    assert min(box.x0, box.y0, width - box.x1, height - box.y1) >= -0.02
    # titles have an empty line above, where a row's head stands
    boxes = [text.get_window_extent() for text in texts if not text.get_text().startswith("\n")]
    for place, one in enumerate(boxes):
        assert not any(one.overlaps(other) for other in boxes[place + 1 :])


def test_figures_can_be_drawn_again_from_their_csv(experiment, tmp_path):
    for name in ("ivg", "jfa"):
        data = compared(experiment("inclora", "lwf", name))
        first = save_figure(variants(data), data, tmp_path / "a")
        again = pd.read_csv(first[2])
        assert save_figure(variants(again), again, tmp_path / "b")[1].read_bytes() == first[1].read_bytes()
    pairs = measures(PAIRED[:4])
    first = save_figure(guidance_effect(pairs, 50), pairs, tmp_path / "c")
    again = pd.read_csv(first[2])
    assert (
        save_figure(guidance_effect(again, 50), again, tmp_path / "d")[1].read_bytes()
        == first[1].read_bytes()
    )


def test_bad_frames_are_refused():
    with pytest.raises(UserError, match="no method has a guided form"):
        guidance_effect(measures(["ewc", "jfa-ivg"]))
    with pytest.raises(UserError, match="no column 'ip'"):
        guidance_effect(measures(PAIRED).drop(columns="ip"))
    with pytest.raises(UserError, match="no method listed is a variant"):
        variants(variants_frame(measures(["ewc"]), []))


def test_sentences_count_what_the_table_says(experiment):
    flat = measures(["ewc"])
    change = 0.1 + flat["seed"].astype(float) / 1000
    higher = flat.assign(
        hp=flat["hp"] + change, ip=flat["ip"] - change, forgetting=flat["forgetting"] - change
    )
    data = pd.concat([flat, higher[1:].assign(method="ewc-ivg")], ignore_index=True)
    said = guidance_sentences(table1(data, resamples=50))[0]
    assert "HP for 1 (1) of 1, IP for 0 (0) of 1, OP for 0 (0) of 1 and Forgetting for 1 (1) of 1" in said
    assert said.endswith("weak evidence with n\u00a0=\u00a03.")
    assert guidance_sentences(table1(flat)) == []
    config = experiment("inclora", "lwf", "ivg")
    levels = measures(["lwf", "lwf-kl"]).assign(ip=[0.5, *[0.4] * 3, *[0.25] * 3])
    levels = pd.concat([levels, levels[1:4].assign(order=2, ip=0.9)])  # of lwf, which its variant has not
    sentences = variants_sentences(variants_frame(levels, variant_comparisons(config)))
    assert [s.replace("\u00a0", " ") for s in sentences] == [
        "IP of the variants of lwf is 25.0 % with lwf-kl; with lwf itself it is 40.0 %."
    ]


def test_experiment_stands_beside_every_method_of_the_paper(pytestconfig):
    reference = pd.read_csv(pytestconfig.rootpath / "workflow" / "reference" / "paper_table1.csv")
    data = measures(PAIRED)
    header, rows = published_cells(table1(data, resamples=50), reference)
    four = ["inclora", "ewc", "lwf", "olora"]
    assert [row[0] for row in rows] == [BASELINE, *(n for m in four for n in (m, f"{m} + IVG"))]
    assert header[1:5] == ["HP", "IP", "OP", "HP, TRACE"]
    assert all(len(row) == len(header) == 13 for row in rows)
    pair = {name: data.loc[data["method"] == name, "ip"].to_numpy() for name in ("ewc", "ewc-ivg")}
    change = 100 * (pair["ewc-ivg"] - pair["ewc"]).mean()
    cells = dict(zip(header, rows[4], strict=True))
    assert f"n=3 ({change:+.1f} [".replace("-", "−") in cells["IP"]
    assert cells["IP, TRACE"] == "54.58 (+10.62)"
    assert cells["OP, LONG"] == "71.71 (−1.91)"
    text = published_markdown(table1(data, resamples=50), reference)
    assert text.count("\n| ") == len(rows) + 2 + len(four) + 2  # and a table of directions
    assert "| lwf | published " in text
    assert published_markdown(table1(measures(["jfa", "fvg"])), reference) == ""

"""Figures: what they draw, that nothing is cut off or overlaps, and that the files are the same every
time.
"""

from functools import partial

import matplotlib
import numpy as np
import pandas as pd
import pytest
import yaml
from matplotlib.colors import to_rgb

from anamnesis.core.errors import UserError
from anamnesis.figures.bars import summary_bars
from anamnesis.figures.curves import accuracy_curves
from anamnesis.figures.curves import draw as draw_curves
from anamnesis.figures.effect_map import head_effects
from anamnesis.figures.intervention_panels import interventions
from anamnesis.figures.style import (
    CONDITION_COLOURS,
    FAINT,
    METHOD_COLOURS,
    MUTED,
    WIDTH,
    method_colour,
    save_figure,
)
from anamnesis.stats.forgetting import COLUMNS
from anamnesis.stats.summary import BASELINE
from runs import ROOT

TASKS = ["alphabetically_last_of_5", "verb_v_adjective_5_spanish", "choose_last_of_5_spanish", "news_topic"]
HELD = ["antonym", "capital_choice"]
_EXPERIMENT = yaml.safe_load((ROOT / "workflow/experiments/methods.yaml").read_text())["training"]
MANY, BOTH = _EXPERIMENT["methods"], _EXPERIMENT["every_order"]


def curves(methods=("inclora", "inclora-ivg"), orders=(1,), seeds=(0, 1)):
    generator = np.random.default_rng(0)
    rows = []
    for method, order, seed in ((m, o, s) for m in methods for o in orders for s in seeds):
        tasks = TASKS if order == 1 else TASKS[::-1]
        for stage, name in ((t, n) for t in range(len(tasks) + 1) for n in [*tasks, *HELD]):
            role = "held_out" if name in HELD else "train_task"
            forms = [("instruction", 0), ("instruction", 5)] + [("knowledge", 0)] * (name == "capital_choice")
            trained = tasks[stage - 1] if stage else None
            for form, shots in forms:
                value = generator.uniform()
                rows.append(
                    (
                        method,
                        order,
                        seed,
                        stage,
                        trained,
                        name,
                        role,
                        form,
                        shots,
                        "accuracy",
                        "sum",
                        value,
                        30,
                    )
                )
    return pd.DataFrame(rows, columns=["method", "order", "seed", *COLUMNS])


def many_curves():
    """One seed of the experiment on methods: a second order has been run for some of them."""
    parts = [curves(methods=MANY, seeds=(0,)), curves(methods=BOTH, orders=(2,), seeds=(0,))]
    return pd.concat(parts, ignore_index=True)


def heads(layers=6, count=4, selected=3):
    effects = np.random.default_rng(1).normal(0, 0.01, layers * count)
    effects[5] = 0.2
    frame = pd.DataFrame({"layer": np.repeat(range(layers), count), "head": np.tile(range(count), layers)})
    frame = frame.assign(effect=effects, standard_error=0.01, n_prompts=50, n_tasks=4)
    frame = frame.sort_values("effect", ascending=False, ignore_index=True)
    return frame.assign(rank=frame.index + 1, selected=frame.index < selected)


def intervened(sets=("antonym", "news_topic", "plural"), layers=5):
    """Adding helps most after the last layer, and on validation examples after the third; removing harms most
    after the last layer on both.
    """
    rows = []
    for name in sets:
        for split, n in (("validation", 30), ("test", 50)):
            bases = (("none", "zero-shot", 0.1), ("few-shot", "few-shot", 0.7))
            rows += [(name, split, -1, kind, base, accuracy, n) for kind, base, accuracy in bases]
            for layer in range(layers):
                added = 0.1 + 0.1 * layer if split == "test" else 0.8 * (layer == 2)
                rows.append((name, split, layer, "add", "zero-shot", added, n))
                rows.append((name, split, layer, "remove", "few-shot", 0.7 - 0.1 * layer, n))
                if split == "test":
                    rows.append((name, split, layer, "random", "zero-shot", 0.1, n))
    return pd.DataFrame(rows, columns=["set", "split", "layer", "condition", "base", "accuracy", "n"])


def chains(methods=("inclora", "inclora-ivg"), known=True):
    rows = [(BASELINE, np.nan, 0.2, 0.5, 0.1, 0.6)]
    rows += [
        (m, s, 0.3 + s / 10, 0.4, 0.5 + i / 50, 0.7 - s / 5) for i, m in enumerate(methods) for s in range(2)
    ]
    frame = pd.DataFrame(rows, columns=["method", "seed", "hp", "ip", "op", "knowledge"])
    return frame if known else frame.assign(knowledge=np.nan)


def held_out():
    """Rows of the table of held-out sets: of five sets two have nothing to lose zero-shot."""
    rows = [("hp", "mean", 5, 2), ("ip", "mean", 5, 0), ("knowledge", "mean", 3, 1), ("hp", "antonym", 1, 1)]
    return pd.DataFrame(rows, columns=["measure", "set", "sets", "marked"])


def panels(figure):
    """Visible panels by title, those of nested figures included."""
    return {axes.get_title(loc="left"): axes for axes in figure.axes if axes.get_visible()}


def texts(figure):
    return [t.get_text() for t in figure.findobj(matplotlib.text.Text) if t.get_text()]


FIGURES = {
    "curves": (accuracy_curves, curves),
    "curves of two orders": (accuracy_curves, lambda: curves(orders=(1, 2))),
    "curves of many methods": (accuracy_curves, lambda: many_curves()),
    "heads": (head_effects, heads),
    "many heads": (head_effects, lambda: heads(32, 32, 20)),
    "interventions": (interventions, intervened),
    "bars": (summary_bars, chains),
    "many bars": (summary_bars, lambda: chains([m for m in METHOD_COLOURS if m != BASELINE])),
    "bars without knowledge": (summary_bars, lambda: chains(known=False)),
    "bars with marks": (partial(summary_bars, held_out=held_out()), chains),
    "curves with marks": (partial(accuracy_curves, marks={HELD[0]: "floor", HELD[1]: "chance"}), curves),
}


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_fits_the_page(name):
    draw, data = FIGURES[name]
    figure = draw(data())
    figure.canvas.draw()
    drawn = figure.get_tightbbox()  # inches, of everything that is drawn
    width, height = figure.get_size_inches()
    assert width == WIDTH
    assert drawn.x0 >= -0.01
    assert drawn.y0 >= -0.01
    assert drawn.x1 <= width + 0.01
    assert drawn.y1 <= height + 0.01


@pytest.mark.parametrize("name", FIGURES)
def test_titles_and_legends_do_not_overlap(name):
    draw, data = FIGURES[name]
    figure = draw(data())
    figure.canvas.draw()
    titles = [axes._left_title for axes in figure.axes if axes.get_visible() and axes.get_title(loc="left")]
    titles += [part._suptitle for part in figure.subfigs if part._suptitle]
    boxes = [item.get_window_extent() for item in [*titles, *figure.findobj(matplotlib.legend.Legend)]]
    for place, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[place + 1 :])


def test_of_many_methods_some_are_in_colour_at_a_time():
    """Each section names the methods that it draws in colours, the same ones in both orders."""
    figure = accuracy_curves(many_curves())
    colours, named = {}, []
    for part in figure.subfigs[:-1]:
        handles = part.legends[0].legend_handles
        key = {handle.get_label(): handle.get_color() for handle in handles}
        assert key.pop("others") == FAINT
        drawn = {line.get_color() for axes in part.axes for line in axes.get_lines()}
        assert drawn - {MUTED} == {FAINT, *key.values()}
        assert len(set(key.values())) == len(key)
        assert all(colours.setdefault(name, colour) == colour for name, colour in key.items())
        named.append(list(key))
    groups = [MANY[k : k + 8] for k in range(0, len(MANY), 8)]
    groups += filter(None, [[name for name in group if name in BOTH] for group in groups])
    assert named == [group for group in groups for _ in ("training tasks", "held-out sets")]


def test_curves_have_a_panel_per_set_and_say_n():
    figure = accuracy_curves(curves())
    expected = {name.replace("_", " ") for name in [*TASKS, *HELD]}
    assert expected == {title for title in panels(figure) if title}
    words = " ".join(texts(figure))
    assert "Training tasks" in words
    assert "Held-out sets" in words
    assert "mean of n = 2 seeds" in words
    assert "1\u00a0alphabetically\u00a0last\u00a0of\u00a05" in words


def test_curves_draw_means_in_the_methods_colours():
    data = curves()
    axes = panels(accuracy_curves(data))["antonym"]
    lines = [line for line in axes.get_lines() if len(line.get_xdata()) == 5]
    assert len(lines) == 4  # two methods, zero-shot and few-shot
    blue = [line for line in lines if line.get_color() == METHOD_COLOURS["inclora-ivg"]]
    part = data[(data["set"] == "antonym") & (data["method"] == "inclora-ivg") & (data["shots"] == 5)]
    expected = 100 * part.groupby("stage")["value"].mean().to_numpy()
    assert any(np.allclose(line.get_ydata(), expected) for line in blue)
    assert len({line.get_linestyle() for line in blue}) == 2
    assert len(axes.collections) == 4  # bands


def test_the_table_of_the_curves_holds_what_is_drawn():
    data = curves()
    drawn = draw_curves(data.assign(empty=0.1), held_out().assign(mark=""))
    pd.testing.assert_frame_equal(drawn.data, data)


def test_stage_of_a_tasks_own_training_is_marked():
    figure = panels(accuracy_curves(curves()))
    marks = {
        title: [line.get_xdata()[0] for line in figure[title].get_lines() if line.get_marker() == "v"]
        for title in ("alphabetically last of 5", "choose last of 5 spanish", "news topic", "antonym")
    }
    assert marks == {
        "alphabetically last of 5": [1],
        "choose last of 5 spanish": [3],
        "news topic": [4],
        "antonym": [],
    }


def test_one_seed_has_no_band():
    figure = accuracy_curves(curves(seeds=(0,)))
    assert not panels(figure)["antonym"].collections
    assert "One seed: no spread is shown." in " ".join(texts(figure))


def test_orders_are_not_averaged():
    both = accuracy_curves(curves(orders=(1, 2)))
    assert "Training tasks, order 2" in texts(both)
    assert len(both.axes) > len(accuracy_curves(curves(orders=(1, 2)), order=1).axes)


def test_head_map_is_symmetric_and_outlines_the_selected():
    data = heads()
    figure = head_effects(data, unit="log_probability")
    axes = figure.axes[1] if figure.axes[0].get_title(loc="left") == "Selected heads" else figure.axes[0]
    image = axes.get_images()[0]
    low, high = image.get_clim()
    assert low == -high == pytest.approx(-data["effect"].abs().max())
    chosen = data[data["selected"]]
    corners = {(p.get_x() + 0.5, p.get_y() + 0.5) for p in axes.patches}
    assert corners == set(zip(chosen["layer"], chosen["head"], strict=True))
    strongest = data.iloc[0]
    assert image.get_array()[int(strongest["head"]), int(strongest["layer"])] == strongest["effect"]
    assert "Δ log P" in " ".join(texts(figure))


def test_interventions_draw_curves_and_reference_lines():
    figure = interventions(intervened())
    axes = panels(figure)["antonym  (n = 50)"]
    curve = {tuple(np.round(line.get_ydata(), 6)) for line in axes.get_lines()}
    assert (10.0, 20.0, 30.0, 40.0, 50.0) in curve
    assert (70.0, 60.0, 50.0, 40.0, 30.0) in curve
    assert (70.0, 70.0) in curve  # few-shot, across the panel
    assert max(map(len, curve)) == 5  # validation examples are not drawn
    marks = {line.get_color(): line.get_xdata()[0] for line in axes.get_lines() if line.get_marker() == "^"}
    assert marks == {CONDITION_COLOURS["add"]: 2, CONDITION_COLOURS["remove"]: 4}
    assert "vector removed from the few-shot prompt" in texts(figure)


@pytest.mark.parametrize(
    ("title", "bars", "points", "before"),
    [
        ("HP: held-out, zero-shot", [35, 35], [30, 30, 40, 40], 20),
        ("IP: held-out, few-shot", [40, 40], [40, 40, 40, 40], 50),
        ("Knowledge: held-out, zero-shot", [60, 60], [50, 50, 70, 70], 60),
        ("OP: training tasks, zero-shot", [50, 52], [50, 50, 52, 52], 10),
    ],
)
def test_bars_show_mean_points_and_n(title, bars, points, before):
    axes = panels(summary_bars(chains()))[title]
    assert [bar.get_height() for bar in axes.patches] == pytest.approx(bars)
    drawn = np.concatenate([c.get_offsets()[:, 1] for c in axes.collections if len(c.get_offsets()) == 2])
    assert sorted(drawn) == pytest.approx(points)
    (line,) = [
        line for line in axes.get_lines() if len(set(line.get_xdata())) == 2 and line.get_zorder() == 3
    ]
    assert list(line.get_ydata()) == pytest.approx([before, before])
    assert [label.get_text() for label in axes.get_xticklabels()] == ["inclora\n(n=2)", "inclora-ivg\n(n=2)"]


def test_knowledge_has_a_panel_where_it_was_measured():
    names = [title.split(":")[0] for title in panels(summary_bars(chains()))]
    assert names == ["HP", "IP", "Knowledge", "OP"]
    names = [title.split(":")[0] for title in panels(summary_bars(chains(known=False)))]
    assert names == ["HP", "IP", "OP"]


def test_bars_of_held_out_sets_say_how_many_of_them_had_nothing_to_lose():
    assert list(panels(summary_bars(chains(), held_out()))) == [
        "HP: held-out, zero-shot\n5 sets, 2 at floor or chance",
        "IP: held-out, few-shot\n5 sets, none at floor or chance",
        "Knowledge: held-out, zero-shot\n3 sets, 1 at floor or chance",
        "OP: training tasks, zero-shot\n",
    ]
    assert not any("\n" in title for title in panels(summary_bars(chains())))


def test_curves_say_which_sets_had_nothing_to_lose():
    data = curves()
    marked = panels(accuracy_curves(data, marks={"antonym": "floor", "not shown": "chance"}))
    plain = panels(accuracy_curves(data))
    assert set(marked) - set(plain) == {"antonym (at floor)"}
    assert set(plain) - set(marked) == {"antonym"}
    for one, two in zip(marked["antonym (at floor)"].get_lines(), plain["antonym"].get_lines(), strict=True):
        assert np.array_equal(one.get_xydata(), two.get_xydata())
    assert "antonym" in set(data["set"])  # the caller's table is as it was


@pytest.mark.parametrize("name", ["curves", "heads", "interventions", "bars"])
def test_files_are_the_same_every_time_and_from_their_csv(name, tmp_path):
    draw, data = FIGURES[name]
    frame = data()
    first = save_figure(draw(frame), frame, tmp_path / "a" / "figure")
    with matplotlib.rc_context({"font.size": 20, "savefig.dpi": 10}):  # a user's own settings change nothing
        second = save_figure(draw(frame), frame, tmp_path / "b" / "figure")
    again = pd.read_csv(first[2])
    third = save_figure(draw(again), again, tmp_path / "c" / "figure")
    assert [path.suffix for path in first] == [".pdf", ".png", ".csv"]
    for one, two, three in zip(first, second, third, strict=True):
        assert one.read_bytes() == two.read_bytes() == three.read_bytes()
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == [
        "figure.csv",
        "figure.pdf",
        "figure.png",
    ]


def test_failed_save_leaves_the_old_file(tmp_path):
    frame = chains()
    _, png, _ = save_figure(summary_bars(frame), frame, tmp_path / "figure")
    before = png.read_bytes()
    figure = summary_bars(frame)

    def broken(path, **options):
        path.write_bytes(b"half")
        raise RuntimeError("stopped")

    figure.savefig = broken
    with pytest.raises(RuntimeError, match="stopped"):
        save_figure(figure, frame, tmp_path / "figure")
    assert png.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 3


def test_method_colours_are_fixed_and_a_pair_differs_in_lightness():
    assert len(set(METHOD_COLOURS.values())) == len(METHOD_COLOURS)
    weights = np.array([0.2126, 0.7152, 0.0722])
    for method in METHOD_COLOURS:
        if method.endswith("-ivg"):
            pair = (METHOD_COLOURS[method], METHOD_COLOURS[method.removesuffix("-ivg")])
            guided, plain = (float(weights @ to_rgb(colour)) for colour in pair)
            assert plain - guided > 0.05
    assert method_colour("mine", ["mine", "other"]) != method_colour("other", ["mine", "other"])


@pytest.mark.parametrize(
    ("draw", "frame", "message"),
    [
        (accuracy_curves, curves().iloc[:0], "accuracy table is empty"),
        (accuracy_curves, curves().drop(columns="seed"), "no column 'seed'"),
        (head_effects, heads().iloc[:0], "table of heads is empty"),
        (
            interventions,
            intervened().replace({"condition": {"add": "ad"}}),
            "unknown condition 'ad': did you mean 'add'",
        ),
        (summary_bars, chains(()), "no trained method"),
    ],
)
def test_bad_frames_are_refused(draw, frame, message):
    with pytest.raises(UserError, match=message):
        draw(frame)


def test_unknown_choices_are_refused():
    with pytest.raises(UserError, match="unknown order '9'"):
        accuracy_curves(curves(), order=9)
    with pytest.raises(UserError, match="unknown method 'incllora': did you mean 'inclora'"):
        accuracy_curves(curves(), methods=["incllora"])
    with pytest.raises(UserError, match="unknown unit of effect"):
        head_effects(heads(), unit="logit")

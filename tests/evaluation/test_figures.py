"""Figures show what the summary says, legibly, as the same bytes every time, and cost nothing until drawn."""

import json
import subprocess
import sys
from copy import deepcopy
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import yaml
from matplotlib.colors import to_hex
from models import save, tiny_backbone
from PIL import Image

from x2l.evaluation import run
from x2l.evaluation.figures import (
    accuracy,
    curve,
    draw,
    draw_training,
    heatmap,
    storage,
    style,
    tradeoff,
    training,
)
from x2l.evaluation.recipe import Evaluation
from x2l.evaluation.shared_video import SharedVideo
from x2l.types import X2LError

RECIPES = Path(__file__).parents[2] / "recipes"
SPINE = json.loads((RECIPES / "results" / "spine.json").read_text())
GROUPS = ["detail", "ordering", "counting", "holistic", "all"]


@pytest.fixture(scope="module")
def curve_summary(tmp_path_factory):
    """A real run, with two oracles and a row that has no k; and its folder."""
    folder = tmp_path_factory.mktemp("curve")
    save(tiny_backbone(), folder / "model")
    data = {"name": "needles", "num": 2, "seed": 3, "chunks": 5, "size": 64, "fps": 1.0}
    top = {k: {"name": "top_k", "k": k} for k in (1, 2)}
    mapping = {
        "data": {**data, "seconds_per_scene": 2, "questions": {"detail": 2, "exist": 1}},
        "base": {"backbone": {"name": "video_xl", "model": str(folder / "model")}, "chunk_frames": 2},
        "rows": {
            "uniform": {"selector": "constant"},
            "gold 2": {"oracle": "annotated", "selector": top[2]},
            "gold 1": {"oracle": "annotated", "selector": top[1]},
            "attention 1": {"oracle": "attention", "selector": top[1]},
            "attention 2": {"oracle": "attention", "selector": top[2]},
        },
        "figure": {"kind": "curve", "over": "selector.k"},
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(mapping, sort_keys=False))
    return run(folder / "recipe.yaml", folder / "out", progress=False), folder


def laid_out(make, summary):
    with style.applied():
        figure = make(summary)
        figure.draw_without_rendering()
    return figure


def titled(figure) -> dict:
    return {axes.get_title(loc="left"): axes for axes in figure.axes if axes.get_title(loc="left")}


def test_every_figure_is_written_whole_and_the_same_again(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        draw(SPINE, tmp_path / folder)
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert names == ["accuracy.png", "accuracy.svg", "tradeoff.png", "tradeoff.svg"]
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    for name in ("accuracy", "tradeoff"):
        with Image.open(tmp_path / "a" / f"{name}.png") as picture:
            assert picture.width == style.WIDTH * 150
            assert len(np.unique(np.asarray(picture.convert("RGB")).reshape(-1, 3), axis=0)) > 20
        assert "<dc:date>" not in (tmp_path / "a" / f"{name}.svg").read_text()


def test_bars_are_the_accuracies():
    panels = titled(laid_out(accuracy.figure, SPINE))
    assert list(panels) == [f"{group} ({SPINE['num_questions'][group]})" for group in GROUPS]
    for group, axes in zip(GROUPS, panels.values(), strict=True):
        rows = [row["accuracy"][group] for row in SPINE["rows"].values()]
        assert [bar.get_width() for bar in axes.patches] == [row["mean"] for row in rows]
        *intervals, chance = axes.lines
        assert [list(line.get_xdata()) for line in intervals] == [row["interval"] for row in rows]
        assert set(chance.get_xdata()) == {SPINE["chance"][group]}
    first = next(iter(panels.values()))
    assert [label.get_text() for label in first.get_yticklabels()] == list(SPINE["rows"])


def test_points_are_accuracy_over_cache_gone():
    panels = titled(laid_out(tradeoff.figure, SPINE))
    assert list(panels) == GROUPS
    for group, axes in panels.items():
        points = [line.get_xydata()[0].tolist() for line in axes.lines if line.get_marker() == "o"]
        assert points == [
            [100 * row["cache_reduction"][group], row["accuracy"][group]["mean"]]
            for row in SPINE["rows"].values()
        ]


def test_points_of_storage_are_accuracy_over_the_bytes_of_an_index(curve_summary):
    summary, folder = curve_summary
    lines = [json.loads(line) for line in (folder / "out" / "results.jsonl").read_text().splitlines()]
    assert {line["index_bytes"] for line in lines} == {row["index_bytes"] for row in summary["rows"].values()}
    for group, axes in titled(laid_out(storage.figure, summary)).items():
        points = [line.get_xydata()[0].tolist() for line in axes.lines if line.get_marker() == "o"]
        assert points == [
            [row["index_bytes"] / 1e6, row["accuracy"][group]["mean"]] for row in summary["rows"].values()
        ]


def test_curves_of_a_training_are_means_of_its_log_and_its_looks(tmp_path):
    """Each kind of question by itself, whatever the shape of the video; a kind may be absent from a line."""
    steps = [{"step": i + 1, "loss": 1 / (i + 1), f"detail/{2 + i % 3}x1@2": i / 200} for i in range(200)]
    steps[3] |= {"count/2x1@2": 0.25, "count/3x1@2": 0.75}
    looks = [{"step": step, "val_loss": 0.5, "val_accuracy": step / 200} for step in (0, 100, 200)]
    with style.applied():
        loss, right = training.figure(steps, looks).axes
    curve, dots = loss.lines
    assert curve.get_ydata()[0] == np.mean([1, 1 / 2, 1 / 3, 1 / 4]) and len(curve.get_xdata()) == 50
    assert dots.get_xydata().tolist() == [[0, 0.5], [100, 0.5], [200, 0.5]]
    detail, count, dots, *_ = right.lines
    assert detail.get_ydata()[-1] == np.mean([196, 197, 198, 199]) / 200
    assert count.get_xydata().tolist() == [[4, 0.5]]
    assert dots.get_ydata().tolist() == [0, 0.5, 1]
    assert {text.get_text() for text in right.texts} == {"detail", "count"}
    draw_training(steps, [], tmp_path)
    draw_training([], [], tmp_path / "absent")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["training.png", "training.svg"]


@pytest.mark.parametrize("make", [accuracy.figure, tradeoff.figure])
def test_no_text_covers_another_or_leaves_the_picture(make):
    figure = laid_out(make, SPINE)
    labels = [
        text
        for axes in figure.axes
        for text in (
            *axes.texts,
            *axes.get_xticklabels(),
            *axes.get_yticklabels(),
            axes.title,
            axes._left_title,
        )
        if text.get_text() and text.get_visible()
    ]
    boxes = [text.get_window_extent() for text in labels]
    shown = [box for box in boxes if box.width > 1]
    assert len(shown) >= len(SPINE["rows"])
    assert all(box.x0 >= 0 and box.x1 <= figure.bbox.width and box.y0 >= 0 for box in shown)
    # A line of text is a little higher than its letters.
    assert not any(one.padded(0, -3).overlaps(other.padded(0, -3)) for one, other in combinations(shown, 2))


@pytest.mark.parametrize("name", ["spine", "table1", "table2"])
def test_no_two_lines_to_labels_cross(name):
    summary = json.loads((RECIPES / "results" / f"{name}.json").read_text())
    for axes in laid_out(tradeoff.figure, summary).axes:
        lines = [line.get_xydata() for line in axes.lines if line.get_xdata()[-1] == style.LINE_END]
        assert len(lines) == len(summary["rows"])
        assert not any(cross(*pair) for pair in combinations(lines, 2))


def cross(one, other) -> bool:
    """Whether the ends of each segment lie on both sides of the other."""

    def side(segment, point):
        (along_x, along_y), (x, y) = segment[1] - segment[0], point - segment[0]
        return along_x * y - along_y * x

    return all(side(a, b[0]) * side(a, b[1]) < -1e-12 for a, b in ((one, other), (other, one)))


def test_values_that_coincide_are_spread_out():
    spread = style.spread_out(np.array([0.5, 1.0, 0.5, 0.0, 0.98]), 0.1)
    assert np.diff(np.sort(spread)).min() >= 0.1 - 1e-9 and spread.min() >= 0 and spread.max() <= 1
    assert spread.argsort(kind="stable").tolist() == [3, 0, 2, 4, 1]
    assert spread[[0, 2]].mean() == pytest.approx(0.5)
    assert style.spread_out(np.array([0.3, 0.7]), 0.1).tolist() == pytest.approx([0.3, 0.7])


def test_a_curve_has_a_line_per_oracle_and_recall_below(curve_summary):
    summary, folder = deepcopy(curve_summary)
    rows = summary["rows"]
    for i, row in enumerate(rows.values()):  # the random model is never right
        for j, value in enumerate(row["accuracy"].values()):
            value["mean"] = (3 * i + j) / 20
    figure = laid_out(curve.figure, summary)
    assert list(titled(figure)) == list(summary["num_questions"]) == ["detail", "holistic", "all"]
    for group, upper, lower in zip(
        summary["num_questions"], figure.axes[::2], figure.axes[1::2], strict=True
    ):
        lines = [line for line in upper.lines if line.get_marker() == "o"]
        for line, oracle in zip(lines, ("gold", "attention"), strict=True):
            means = [rows[f"{oracle} {k}"]["accuracy"][group]["mean"] for k in (1, 2)]
            assert line.get_xydata().tolist() == [[1, means[0]], [2, means[1]]]
        assert len({line.get_linestyle() for line in lines}) == 2 == len(upper.collections)
        uniform = rows["uniform"]["accuracy"][group]["mean"]
        assert any(set(line.get_ydata()) == {uniform} for line in upper.lines if line not in lines)
        assert [text.get_text() for text in upper.texts] == ["annotated", "attention", "uniform"]
        recalls = [line.get_ydata().tolist() for line in lower.lines]
        expected = [
            [rows[f"{o} {k}"]["recall_by_group"][group] for k in (1, 2)] for o in ("gold", "attention")
        ]
        assert recalls == ([] if group == "holistic" else expected)
    assert {path.name for path in (folder / "out").glob("curve.*")} == {"curve.png", "curve.svg"}


def test_another_figure_of_a_finished_run_asks_nothing_again(curve_summary, monkeypatch):
    _, folder = curve_summary
    monkeypatch.setattr(SharedVideo, "index", lambda *_: pytest.fail("a finished video is indexed"))
    summary = run(
        folder / "recipe.yaml", folder / "out", ["figure={kind: curve, over: chunk_frames}"], progress=False
    )
    assert laid_out(curve.figure, summary).axes[0].lines[0].get_xdata().tolist() == [2, 2, 2]


def test_a_heatmap_has_a_cell_per_length_and_depth():
    cells = {"64 frames": {"0": 1.0, "50": 0.25}, "128 frames": {"0": 0.5}}
    rows = {"one": {"accuracy_by_depth": cells}, "two": {"accuracy_by_depth": cells}}
    figure = laid_out(heatmap.figure, {"rows": rows})
    assert list(titled(figure)) == ["one", "two"]
    for axes in figure.axes:
        texts = {text.get_position(): text.get_text() for text in axes.texts}
        assert texts == {(0.5, 0.5): "1.00", (0.5, 1.5): "0.25", (1.5, 0.5): "0.50"}
        assert [label.get_text() for label in axes.get_xticklabels()] == ["64", "128"]
        assert [label.get_text() for label in axes.get_yticklabels()] == ["0", "50"]
        assert axes.get_ylim()[0] > axes.get_ylim()[1], "depth goes down"
        colours = [to_hex(colour) for colour in axes.collections[0].get_facecolors()[:3]]
        assert len(set(colours)) == 3


def mapping_with(figure, data: str = "needles") -> dict:
    needles = {"name": "needles", "num": 1, "seed": 1, "chunks": 4}
    haystack = {"name": "haystack", "num": 1, "seed": 1, "lengths": [64]}
    rows = {"some": {"selector": {"name": "top_k", "k": 1}}, "none": {"selector": "constant"}}
    chosen = {"needles": needles, "haystack": haystack}[data]
    return {"data": chosen, "rows": rows} | ({"figure": figure} if figure else {})


@pytest.mark.parametrize(
    ("figure", "message"),
    [
        ({"kind": "pie"}, "figure.kind: expected curve or heatmap or storage, got 'pie'"),
        ({}, "figure.kind: missing, expected curve or heatmap or storage"),
        ({"kind": "curve"}, "figure.over: missing, expected a field of the rows such as selector.k"),
        ({"kind": "curve", "over": "selector.q"}, "figure.over: expected a number that some row has, no row"),
        ({"kind": "curve", "over": "selector.name"}, "no row has 'selector.name'"),
        ({"kind": "curve", "over": 3}, "figure.over: expected str, got 3"),
        ({"kind": "curve", "ober": "selector.k"}, "figure.ober: unknown, expected one of kind, over"),
        ({"kind": "heatmap"}, "figure.kind: a heatmap shows haystack or v_niah, got needles"),
    ],
)
def test_a_figure_that_cannot_be_drawn_is_named(figure, message):
    with pytest.raises(X2LError) as error:
        Evaluation.from_mapping(mapping_with(figure or {"over": "k"}))
    assert message in str(error.value) and "\n" not in str(error.value)


def test_a_heatmap_is_over_nothing_else():
    with pytest.raises(X2LError, match=r"figure\.over: expected only with a curve"):
        Evaluation.from_mapping(mapping_with({"kind": "heatmap", "over": "selector.k"}, "haystack"))


def test_a_figure_decides_no_answer():
    hashes = {
        Evaluation.from_mapping(mapping_with(figure, "haystack")).hash()
        for figure in (None, {"kind": "heatmap"}, {"kind": "curve", "over": "selector.k"})
    }
    assert len(hashes) == 1


def test_matplotlib_is_imported_only_to_draw_and_without_a_display(tmp_path):
    spine = str(RECIPES / "results" / "spine.json")
    code = (
        "import json, sys, pathlib\nfrom x2l.evaluation import run\nfrom x2l.evaluation.figures import draw\n"
        "assert 'matplotlib' not in sys.modules\n"
        f"draw(json.load(open({spine!r})), pathlib.Path({str(tmp_path)!r}))\n"
        "assert 'matplotlib' in sys.modules and 'matplotlib.pyplot' not in sys.modules"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={"PATH": ""})
    assert result.returncode == 0, result.stderr

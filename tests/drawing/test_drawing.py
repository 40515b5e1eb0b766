"""The time line of an answer, thumbnails, figures in words."""

import base64
import re
from io import BytesIO
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from x2l.drawing.thumbnail import thumbnail
from x2l.drawing.timeline import GOLD, LARGE, SCORE, SMALL, swatch, timeline
from x2l.drawing.words import minutes, size, span
from x2l.types import DROPPED, Plan

SVG = "{http://www.w3.org/2000/svg}"
PLAN = Plan((32, 2, 8, DROPPED), (-1.0, 3.0, 1.0, float("-inf")))
BOUNDS_S, TOKENS = [0.0, 10.0, 20.0, 25.0, 40.0], (5, 80, 20, 0)


def parsed(svg):
    """An SVG as it is parsed inside a page."""
    return ElementTree.fromstring(str(svg).replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg"', 1))


def chunks(*shown, **how):
    """The drawn chunks, and by class the vertical extents of what each has."""
    drawn = [each for each in parsed(timeline(*shown, **how)) if "data-chunk" in each.attrib]
    return drawn, [
        {
            rect.get("class"): (float(rect.get("y", 0)), float(rect.get("height")))
            for rect in each.iter(f"{SVG}rect")
        }
        for each in drawn
    ]


def test_each_chunk_stands_where_it_is_tells_its_figures_and_seeks_to_its_start():
    drawn, _ = chunks(PLAN, BOUNDS_S, TOKENS, {3})
    assert [float(each.get("data-seek")) for each in drawn] == BOUNDS_S[:4]
    assert [(each.get("x"), each.get("width")) for each in drawn] == [
        *(("0.000%", "25.000%"), ("25.000%", "25.000%")),
        *(("50.000%", "12.500%"), ("62.500%", "37.500%")),
    ]
    titles = [each.find(f"{SVG}title").text for each in drawn]
    assert titles[1] == "chunk 1: 0:10–0:20\n2x, 80 tokens\nscore 3"
    assert titles[3] == "chunk 3: 0:25–0:40\nleft out\nscore -inf\nholds the answer"
    assert [each.get("class") for each in drawn] == ["", "evidence", "", ""]


@pytest.mark.parametrize("of", [LARGE, SMALL], ids=["large", "small"])
def test_scores_are_as_tall_as_they_are_high_and_levels_as_they_are_dense(of):
    _, bars = chunks(PLAN, BOUNDS_S, gold={1}, size=of)
    low, high, middle = (bars[chunk]["score"][1] for chunk in (0, 1, 2))
    assert "score" not in bars[3] and high == of.scores and 0 < low < 0.1 * of.scores
    assert middle == pytest.approx((low + high) / 2, abs=0.1)
    dense, coarse, between = (bars[chunk]["level"] for chunk in (1, 0, 2))
    assert of.levels > dense[1] > between[1] > coarse[1] > 0 and "dropped" in bars[3]
    bottoms = {round(top + height, 1) for top, height in (dense, coarse, between, bars[3]["dropped"])}
    assert bottoms == {of.scores + of.gap + of.levels}
    assert ["gold" in each for each in bars] == [False, True, False, False]
    assert bars[1]["gold"][0] == bottoms.pop() + of.gap


def test_a_level_looks_the_same_in_every_plan_and_in_the_legend():
    looks = [re.search('style="([^"]*)"', swatch(ratio))[1] for ratio in (1, 2, 8, 32, 64)]
    assert looks == ["--gist:0%", "--gist:0%", "--gist:50%", "--gist:100%", "--gist:100%"]
    for plan in (PLAN, Plan((8, 8))):
        drawn = {rect.get("style") for rect in parsed(timeline(plan)).iter(f"{SVG}rect")}
        assert looks[2] in drawn
    assert parsed(swatch(1)).find(f"{SVG}rect").get("height") == "12.0"
    assert [re.findall('class="([a-z]+)" y', each) for each in (swatch(DROPPED), SCORE, GOLD)] == [
        *(["dropped"], ["score"], ["gold"])
    ]


@pytest.mark.parametrize("bounds_s", [None, [3.0, 3.0, 3.0], [0.0, 5.0]], ids=["none", "pictures", "too few"])
def test_without_scores_and_times_there_is_a_plan(bounds_s):
    drawn, bars = chunks(Plan((1, 1)), bounds_s)
    assert [each.get("width") for each in drawn] == ["50.000%"] * 2
    assert [sorted(each) for each in bars] == [["area", "level"]] * 2
    assert [each.find(f"{SVG}title").text for each in drawn] == ["chunk 0\n1x", "chunk 1\n1x"]
    assert not any("data-seek" in each.attrib for each in drawn) and "<text" not in timeline(PLAN)


def test_small_has_nothing_to_click_and_scores_that_are_no_numbers_have_no_height():
    assert "data-seek" not in timeline(PLAN, BOUNDS_S, size=SMALL)
    assert "<text" not in timeline(PLAN, BOUNDS_S, size=SMALL)
    _, bars = chunks(Plan((1, 1, 1), (float("nan"), 2.0, float("inf"))))
    assert [each.get("score", (0, 0))[1] for each in bars] == [0, pytest.approx(5.3, abs=0.1), LARGE.scores]


@pytest.mark.parametrize(
    ("bounds_s", "ends"),
    [
        ([0.0, 8.0], ("0:00", "0:08")),
        ([0, 215], ("0:00", "3:30")),
        ([0.0, 7300.0], ("0:00", "2:00:00")),
        ([7.0, 215.0], ("0:30", "3:30")),
    ],
)
def test_the_axis_has_few_round_times(bounds_s, ends):
    ticks = re.findall(r">([\d:]+)</text>", timeline(Plan((2,)), bounds_s))
    assert (ticks[0], ticks[-1]) == ends
    assert 2 <= len(ticks) <= 10


def test_a_thumbnail_is_a_small_jpeg_of_the_frame():
    frame = np.zeros((100, 400, 3), np.uint8)
    frame[..., 0] = 200
    head, content = thumbnail(frame, longest=80).split(",")
    picture = Image.open(BytesIO(base64.b64decode(content)))
    assert head == "data:image/jpeg;base64" and picture.format == "JPEG" and picture.size == (80, 20)
    assert np.allclose(np.asarray(picture).mean(axis=(0, 1)), (200, 0, 0), atol=4)


def test_figures_in_words():
    assert [minutes(s) for s in (7.9, 215, 3729)] == ["0:07", "3:35", "1:02:09"]
    assert span(7.9, 215) == "0:07–3:35"
    assert [size(n) for n in (999, 12_300, 4_500_000, 1_234_000_000)] == [
        *("999 B", "12.3 kB"),
        *("4.5 MB", "1.23 GB"),
    ]

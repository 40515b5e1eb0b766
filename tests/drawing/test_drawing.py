"""The time line of an answer, thumbnails, figures in words."""

import base64
import re
from io import BytesIO
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from x2l.drawing.thumbnail import thumbnail
from x2l.drawing.timeline import HEIGHT, LEVEL_HEIGHT, LEVELS_END, SCORES_END, legend, timeline
from x2l.drawing.words import minutes, size
from x2l.types import DROPPED, Plan

SVG = "{http://www.w3.org/2000/svg}"
PLAN = Plan((32, 2, 8, DROPPED), (-1.0, 3.0, 1.0, float("-inf")))
STARTS_S, DURATION_S, TOKENS, RATIOS = [0.0, 10.0, 20.0, 30.0], 40.0, (5, 80, 20, 0), (2, 8, 32)


def chunks(plan=PLAN, ratios=RATIOS):
    """The drawn chunks: their elements, by class their heights, and their titles."""
    svg = ElementTree.fromstring(timeline(plan, STARTS_S, DURATION_S, TOKENS, ratios))
    groups = [group for group in svg.iter(f"{SVG}g") if "data-seek" in group.attrib]
    heights = [
        {rect.get("class"): float(rect.get("height")) for rect in group.iter(f"{SVG}rect")}
        for group in groups
    ]
    return groups, heights


def test_each_chunk_stands_where_it_is_and_seeks_to_its_start():
    groups, _ = chunks()
    assert [float(group.get("data-seek")) for group in groups] == STARTS_S
    areas = [group.find(f"{SVG}rect[@class='area']") for group in groups]
    assert [(area.get("x"), area.get("width")) for area in areas] == [
        (f"{x}.000%", "25.000%") for x in (0, 25, 50, 75)
    ]
    assert groups[1].find(f"{SVG}title").text == "chunk 1: 0:10 - 0:20\n2x, 80 tokens\nscore 3"
    assert groups[3].find(f"{SVG}title").text == "chunk 3: 0:30 - 0:40\nleft out\nscore -inf"
    assert [group.get("class") for group in groups] == ["", "evidence", "", ""]


def test_scores_are_as_tall_as_they_are_high_and_levels_as_they_are_dense():
    _, heights = chunks()
    scores = [each["score"] for each in heights]
    assert scores[1] == SCORES_END and scores[3] == 0
    assert 0 < scores[0] < 0.1 * SCORES_END
    assert scores[2] == pytest.approx((scores[0] + scores[1]) / 2, abs=0.1)
    assert heights[1]["dense"] == LEVEL_HEIGHT
    assert heights[1]["dense"] > heights[2]["between"] > heights[0]["coarse"] > heights[3]["dropped"]
    assert HEIGHT > LEVELS_END > SCORES_END + LEVEL_HEIGHT


def test_a_level_looks_the_same_in_every_plan_of_an_index():
    _, heights = chunks(Plan((2,) * 4), (2, 32))
    assert heights == [{"area": LEVELS_END, "score": 0, "dense": LEVEL_HEIGHT}] * 4
    assert legend(Plan((2,) * 4), (2, 32)) == [("dense", "in detail: L-KVs, 2x")]
    assert [kind for kind, _ in legend(PLAN, RATIOS)] == ["dense", "between", "coarse", "dropped"]
    assert "no scores</text>" in timeline(Plan((2,) * 4), STARTS_S, DURATION_S, TOKENS, (2, 32))


@pytest.mark.parametrize(("duration_s", "last"), [(8, "0:08"), (215, "3:30"), (7300, "2:00:00")])
def test_the_axis_has_few_round_times(duration_s, last):
    ticks = re.findall(r">([\d:]+)</text>", timeline(Plan((2,)), [0.0], duration_s, (1,), (2,)))
    assert ticks[0] == "0:00" and ticks[-1] == last
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
    assert [size(n) for n in (999, 12_300, 4_500_000, 1_234_000_000)] == [
        *("999 B", "12.3 kB"),
        *("4.5 MB", "1.23 GB"),
    ]

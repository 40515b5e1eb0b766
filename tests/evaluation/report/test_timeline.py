"""A time line draws a plan to scale."""

from html.parser import HTMLParser

from x2l.evaluation.report.timeline import timeline


class Rectangles(HTMLParser):
    """The rectangles of each chunk by their class, and what it says when it is pointed at."""

    def __init__(self, svg):
        super().__init__()
        self.chunks, self.tips = [], []
        self.feed(svg)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if tag == "g":
            self.chunks.append({})
            self.tips.append(attributes["data-tip"])

    def handle_startendtag(self, tag, attributes):
        attributes = dict(attributes)
        name = attributes.pop("class")
        self.chunks[-1][name] = {key: float(number) for key, number in attributes.items()}


def test_chunks_are_as_long_as_they_last_as_dark_as_their_level_and_as_high_as_their_score():
    drawn = Rectangles(timeline([2, 32, 0], [0.5, 1.0, 0.0], [10.0, 20.0, 25.0, 30.0], {2}))
    levels = [chunk.get("level") or chunk["dropped"] for chunk in drawn.chunks]
    assert [(level["x"], level["width"]) for level in levels] == [(0, 500), (500, 250), (750, 250)]
    assert [level.get("fill-opacity") for level in levels] == [0.83, 0.17, None]
    assert ["dropped" in chunk for chunk in drawn.chunks] == [False, False, True]
    scores = [(chunk["score"]["y"], chunk["score"]["height"]) for chunk in drawn.chunks]
    assert scores == [(11.0, 13.0), (0.0, 24.0), (22.1, 1.9)]
    assert ["gold" in chunk for chunk in drawn.chunks] == [False, False, True]
    assert drawn.tips == [
        "chunk 0, 0:10–0:20, 2x, score 0.5",
        "chunk 1, 0:20–0:25, 32x, score 1",
        "chunk 2, 0:25–0:30, left out, score 0, holds the answer",
    ]


def test_without_scores_and_times_there_is_a_plan():
    """Nor are times any that do not grow, as those of pictures, or scores that are no numbers."""
    bare = Rectangles(timeline([1, 1]))
    assert [sorted(chunk) for chunk in bare.chunks] == [["hit", "level"]] * 2
    assert bare.tips == ["chunk 0, 1x", "chunk 1, 1x"]
    odd = Rectangles(timeline([1, 1], [float("-inf"), 2.0], [3.0, 3.0, 3.0]))
    assert [chunk["level"]["width"] for chunk in odd.chunks] == [500, 500]
    assert ["score" in chunk for chunk in odd.chunks] == [False, True]

"""Requests in any order: every answer is that of the pipeline, and no video is indexed twice."""

from dataclasses import dataclass, field, fields

import pytest

from x2l.errors import X2LError
from x2l.lmms.answers import Request, answers
from x2l.needles.dataset import read_dataset, write_dataset
from x2l.pipeline import Pipeline
from x2l.recipe import RECOMMENDED, Recipe, build_pipeline

SHORT = {"max_new_tokens": 4}


@dataclass
class Counted(Pipeline):
    """A pipeline that remembers what it indexed."""

    indexed: list = field(default_factory=list)

    def index(self, video, progress=False):
        self.indexed.append(video)
        return super().index(video, progress)


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    """Questions about two needle videos, those about one between those about the other."""
    folder = tmp_path_factory.mktemp("needles") / "data"
    write_dataset(folder, 2, 5, 4, size=96, seconds_per_scene=2, questions={"detail": 2, "exist": 1})
    one, other = ([(str(path), each.text) for each in questions] for path, questions in read_dataset(folder))
    return [pair for pairs in zip(one, other, strict=True) for pair in pairs]


@pytest.fixture
def pipeline():
    built = build_pipeline(Recipe.from_mapping(RECOMMENDED))
    return Counted(**{each.name: getattr(built, each.name) for each in fields(Pipeline)})


def test_answers_come_in_the_order_of_the_requests(asked, pipeline):
    videos = list(dict.fromkeys(video for video, _ in asked))
    indices = {video: Pipeline.index(pipeline, video) for video in videos}
    expected = [pipeline.ask(indices[video], text, **SHORT).text for video, text in asked]
    assert len(set(expected)) > 2 and len(videos) == 2
    assert answers(pipeline, [Request(video, text, SHORT) for video, text in asked]) == expected
    assert pipeline.indexed == videos


def test_an_answer_ends_in_front_of_its_stop(asked, pipeline):
    video, text = asked[0]
    (whole,) = answers(pipeline, [Request(video, text, SHORT)])
    stop = whole[len(whole) // 2]
    (said,) = answers(pipeline, [Request(video, text, {**SHORT, "stop_strings": [stop]})])
    assert whole.startswith(said + stop) and stop not in said


def test_a_video_that_cannot_be_read_is_named(pipeline, tmp_path):
    with pytest.raises(X2LError, match=r"absent\.mp4"):
        answers(pipeline, [Request(str(tmp_path / "absent.mp4"), "How many bells appear in the video?", {})])

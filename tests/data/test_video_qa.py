"""Training data: pictures as videos, sources of samples, and which of them comes when."""

import json
import pickle
import re
import warnings
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path

import lightning
import numpy as np
import pytest
import torch
import yaml
from models import save, tiny_backbone
from PIL import Image
from torch.utils.data import DataLoader
from video_files import cut_short, picture, shown_index

from x2l.backbones.x2l_tiny import X2LTiny
from x2l.chunkers.fixed import Fixed
from x2l.cli import main
from x2l.compressors.identity import Identity
from x2l.data import make_training_data as make_source
from x2l.data._drawing import proportional, stratified
from x2l.data.llava import Llava
from x2l.data.needles import Needles
from x2l.data.vico import Vico
from x2l.errors import X2LError
from x2l.interfaces import Data
from x2l.needles.video_file import write_video
from x2l.oracles.annotated import Annotated
from x2l.pipeline import Pipeline
from x2l.selectors.constant import Constant
from x2l.storage import store
from x2l.training.qa_data import BrokenVideos, VideoQA, VideoQADataModule
from x2l.training.qa_steps import TrainingVideos
from x2l.video import Footage, Sampling, Stills, open_stills, open_video, stills_of

PAGE = Path(__file__).parents[2] / "docs" / "training_data.md"
EVERY_FRAME = Sampling(fps=1000.0, max_frames=None)
NEEDLES = {"name": "needles", "num": 5, "seed": 3, "chunks": [3, 5], "seconds_per_scene": 2}


def write_pictures(folder: Path, numbers: range, name: str = "frame_{}.png") -> Path:
    folder.mkdir(parents=True)
    for number in numbers:
        Image.fromarray(picture(number)).save(folder / name.format(number))
    return folder


def shown(footage: Footage) -> list[int]:
    return [shown_index(frame) for clip in footage.clips() for frame in clip.frames]


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """Twelve folders of six frames, nine of them in one folder; a video of six at 2 fps; other pictures."""
    root = tmp_path_factory.mktemp("root")
    for number in range(12):
        write_pictures(root / place_of(number), range(number, number + 6))
    write_video(root / "video.mp4", [picture(i) for i in range(6)], fps=2.0)
    write_pictures(root / "frames", range(12))
    write_pictures(root / "pages", range(3))
    return root


def place_of(number: int) -> str:
    return f"{'long' if number < 9 else 'short'}/{number}"


def turns(*texts: str) -> list[dict]:
    return [{"from": ("human", "gpt")[i % 2], "value": text} for i, text in enumerate(texts)]


def record(number: int, **fields) -> dict:
    said = turns(f"<image>\nWhat is {number}?", f"It is {number}.", "And then?", f"{number + 1}.")
    return {"id": f"inv_{number}", "video": place_of(number), "conversations": said} | fields


def write(path: Path, data) -> str:
    path.write_text(data if isinstance(data, str) else json.dumps(data))
    return str(path)


@pytest.fixture(scope="module")
def records(root) -> str:
    return write(root / "records.json", [record(number) for number in range(12)])


# Pictures as a video


def test_a_folder_of_pictures_is_a_video_of_one_frame_a_second_in_natural_order(root):
    footage = open_video(root / "frames")
    assert isinstance(footage, Stills) and shown(footage) == list(range(12))
    assert footage.times_s.tolist() == list(range(12)) and footage.duration_s == 12
    assert [len(clip.frames) for clip in footage.clips(footage.equal_parts(5))] == [5, 5, 2]
    assert [clip.first_frame for clip in footage.clips([5, 5, 2])] == [0, 5, 10]
    assert (footage.num_frames, footage.lost_share) == (12, 0)
    assert footage.facts == next(footage.clips()).video


def test_sampling_counts_in_the_pictures_own_seconds(root):
    footage = open_stills(root / "frames", Sampling(fps=1.0), fps=4.0)
    assert shown(footage) == [0, 4, 8] and footage.times_s.tolist() == [0, 1, 2]
    assert footage.duration_s == 3
    by_sampling = open_video(root / "frames", Sampling(fps=1.0, picture_fps=4.0))
    assert shown(by_sampling) == [0, 4, 8] and by_sampling.duration_s == 3
    assert by_sampling.fingerprint()["sha256"] == footage.fingerprint()["sha256"]
    assert shown(open_video(root / "frames", Sampling(num_frames=3))) == [0, 5, 11]


def test_a_picture_and_a_list_of_pictures_are_videos(root):
    pages = root / "pages"
    assert shown(open_video(pages / "frame_2.png")) == [2]
    assert open_video(pages / "frame_2.png").duration_s == 1
    assert shown(open_stills([pages / "frame_2.png", pages / "frame_0.png"])) == [2, 0]


def test_pictures_become_rgb_upright_and_of_the_first_ones_size(tmp_path):
    upright = Image.fromarray(picture(7))
    upright.save(tmp_path / "1.bmp")
    upright.resize((192, 128), Image.Resampling.NEAREST).save(tmp_path / "2.webp", lossless=True)
    upright.convert("L").save(tmp_path / "3.png")
    turned = upright.transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6
    turned.save(tmp_path / "4.JPG", quality=95, exif=exif)
    (tmp_path / "._5.png").write_bytes(b"left by a file manager")
    (tmp_path / "notes.txt").write_text("not a picture")
    (clip,) = open_video(tmp_path).clips()
    assert clip.frames.shape == (4, 64, 96, 3)
    assert [shown_index(frame) for frame in clip.frames] == [7] * 4


def test_frames_in_memory_are_a_video():
    frames = np.stack([picture(number) for number in range(4)])
    footage = stills_of(frames, np.array([0, 0.5, 1.5, 3.0]), "drawn", EVERY_FRAME)
    assert shown(footage) == [0, 1, 2, 3] and footage.duration_s == 4
    assert (footage.reader, footage.fingerprint()["file"]) == ("memory", "drawn")
    assert shown(stills_of(frames, np.arange(4.0), "drawn", Sampling(num_frames=2))) == [0, 3]


def test_fingerprints_of_pictures_are_like_those_of_files_and_tell_them_apart(root):
    one = open_video(root / "frames").fingerprint()
    assert one.keys() == open_video(root / "video.mp4").fingerprint().keys()
    assert (one["file"], one["reader"], one["num_frames"]) == ("frames", "pillow", 12)
    assert one["bytes"] == sum(path.stat().st_size for path in (root / "frames").iterdir())
    assert one == json.loads(json.dumps(open_video(root / "frames").fingerprint()))
    frames = np.zeros((2, 4, 4, 3), np.uint8)
    others = [
        open_stills(root / "frames", fps=2.0),
        open_video(root / "pages"),
        stills_of(frames, np.arange(2.0), "a"),
        stills_of(frames + 1, np.arange(2.0), "a"),
        stills_of(frames, 2 * np.arange(2.0), "a"),
    ]
    assert len({one["sha256"], *(other.fingerprint()["sha256"] for other in others)}) == 6


def test_the_frames_between_two_times(root):
    stills, video = open_stills(root / "frames", fps=2.0), open_video(root / "video.mp4")
    assert stills.span_s(2, 3) == (1.0, 2.0) and stills.span_s(11, 11) == (5.5, 6.0)
    assert video.num_frames == 3 and video.span_s(1, 5) == pytest.approx((0.5, 3.0), abs=1e-3)
    with pytest.raises(X2LError, match="frames: has no frame 12, expected one of its 12"):
        stills.span_s(0, 12)


@pytest.mark.parametrize(
    ("open_it", "message"),
    [
        (lambda root: open_video(root / "none.png"), "none.png: no such file"),
        (lambda root: open_stills(root / "long"), "long: is a directory without pictures, expected jpg"),
        (lambda root: open_video(root / "long"), "long: is a directory without pictures .*tiff"),
        (lambda root: open_stills(()), "pictures: expected at least one, got none"),
        (lambda root: open_stills(root / "frames", fps=0.0), "fps: expected .* above 0, got 0.0"),
        (lambda root: open_video(root / "frames", reader="pyav"), "frames: is made of pictures, a reader"),
        (lambda root: open_video(root / "frames", salvage=True), "frames: is made of pictures, .*salvage"),
    ],
)
def test_pictures_that_cannot_be_opened_are_one_line(root, open_it, message):
    with pytest.raises(X2LError, match=message):
        open_it(root)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bits_become_8_without_clipping(tmp_path, suffix):
    ramp = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    Image.fromarray(ramp).save(tmp_path / f"ramp.{suffix}")
    (clip,) = open_video(tmp_path).clips()
    expected = np.round(ramp / 65535 * 255).astype(np.uint8)
    np.testing.assert_array_equal(clip.frames[0], np.repeat(expected[..., None], 3, axis=2))


@pytest.mark.parametrize("kind", [np.int32, np.float32])
def test_levels_without_a_known_white_are_refused(tmp_path, kind):
    Image.fromarray(np.ones((4, 4), kind)).save(tmp_path / "depth.tiff")
    with pytest.raises(X2LError, match=r"depth\.tiff: has 32 bits .*, expected 8 or 16"):
        open_video(tmp_path)


MS = [100, 250, 50, 0, 700]
ANIMATED = {"webp": {"duration": MS, "lossless": True}, "png": {"duration": MS}, "gif": {"duration": MS}}


def write_animation(path: Path, **options) -> Path:
    first, *others = (Image.fromarray(picture(number)) for number in range(1, 6))
    first.save(path, save_all=True, append_images=others, **options)
    return path


@pytest.mark.parametrize("suffix", ANIMATED)
def test_an_animated_picture_is_a_video_with_its_own_times(tmp_path, suffix):
    path = write_animation(tmp_path / f"a.{suffix}", **ANIMATED[suffix])
    footage = open_video(path, EVERY_FRAME)
    assert shown(footage) == [1, 2, 3, 4, 5] == shown(footage)
    # What is given no time is shown for 0.1 s, as browsers do.
    np.testing.assert_allclose(footage.times_s, [0, 0.1, 0.35, 0.4, 0.5])
    assert footage.duration_s == pytest.approx(1.2)
    assert shown(open_video(path, Sampling(num_frames=2))) == [1, 5]


def test_what_stands_before_an_animation_is_not_part_of_it(tmp_path):
    path = write_animation(tmp_path / "a.png", duration=1000, default_image=True)
    assert (shown(open_video(path)), open_video(path).duration_s) == ([2, 3, 4, 5], 4)


def test_pages_are_pictures_in_turn(tmp_path):
    pages = open_video(write_animation(tmp_path / "pages.tif"))
    assert (shown(pages), pages.times_s.tolist(), pages.duration_s) == ([1, 2, 3, 4, 5], [0, 1, 2, 3, 4], 5)


def test_an_animation_among_pictures_is_refused(tmp_path):
    write_pictures(tmp_path / "frames", range(2))
    path = write_animation(tmp_path / "frames" / "frame_2.webp")
    with pytest.raises(X2LError, match=r"frame_2\.webp: holds 5 pictures, expected one; alone it is a video"):
        shown(open_video(tmp_path / "frames"))
    path.unlink()
    # The second picture of a phone's file is for the other eye.
    write_animation(tmp_path / "frames" / "frame_2.jpg", format="MPO")
    assert shown(open_video(tmp_path / "frames")) == [0, 1, 1]


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "bmp", "tif"])
def test_a_damaged_picture_is_one_line_that_names_it(tmp_path, suffix):
    write_pictures(tmp_path / "cut", range(3), "{}." + suffix)
    path = tmp_path / "cut" / f"1.{suffix}"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    footage = open_video(tmp_path / "cut")
    with pytest.raises(X2LError, match="not a picture, or a damaged one") as caught:
        shown(footage)
    assert str(path) in str(caught.value)
    with pytest.raises(X2LError, match="not a picture"):
        open_video(path)


@pytest.mark.parametrize(
    ("frames", "times_s", "message"),
    [
        (np.zeros((0, 4, 4, 3), np.uint8), [], "expected uint8 frames"),
        (np.zeros((2, 4, 4, 3)), [0, 1], "got float64"),
        (np.zeros((4, 4, 3), np.uint8), [0], "expected uint8 frames"),
        (np.zeros((2, 4, 4, 3), np.uint8), [0], "expected 2 times that ascend from 0"),
        (np.zeros((2, 4, 4, 3), np.uint8), [0, 0], "expected 2 times that ascend from 0"),
        (np.zeros((2, 4, 4, 3), np.uint8), [1, 2], "expected 2 times that ascend from 0"),
    ],
)
def test_frames_of_another_kind_are_refused(frames, times_s, message):
    with pytest.raises(X2LError, match=f"drawn: .*{message}|drawn: {message}"):
        stills_of(frames, np.array(times_s, float), "drawn")


def test_a_folder_of_pictures_is_indexed_and_asked(root, tmp_path, capsys):
    save(tiny_backbone(), tmp_path / "model")
    options = ["--set", f"backbone.model={tmp_path / 'model'}", "--chunk-frames", "4", "--json"]
    capsys.readouterr()
    assert main(["ask", str(root / "frames"), "How many bells?", *options]) == 0
    chunks = json.loads(capsys.readouterr().out)["chunks"]
    assert len(chunks) == 3
    pipeline = Pipeline(tiny_backbone(), Identity(), Annotated(), Constant(1), (1,), chunker=Fixed(4))
    index = pipeline.index(open_video(root / "frames"))
    assert [chunk.num_frames for chunk in index.chunks] == [4, 4, 4]
    again = pipeline.with_features(index, open_video(root / "frames"))
    assert again.spec.video["file"] == "frames"


def test_pictures_at_another_rate_are_placed_in_time(root, tmp_path, capsys):
    save(tiny_backbone(), tmp_path / "model")
    make = ["--set", f"backbone.model={tmp_path / 'model'}", "--chunk-frames", "4", "--fps", "2"]
    ask = ["ask", str(root / "frames"), "How many bells?", *make, "--json"]
    ends_s = {}
    for rate in ([], ["--picture-fps", "2"]):
        capsys.readouterr()
        assert main([*ask, *rate]) == 0
        out, err = capsys.readouterr()
        ends_s[len(rate)] = [chunk["end_s"] for chunk in json.loads(out)["chunks"]]
        assert ("its pictures are taken as 1 a second, --picture-fps" in err) == (not rate)
    assert ends_s == {0: [3, 7, 11], 2: [1.5, 3.5, 5.5]}
    index = ["index", str(root / "frames"), "-o", str(tmp_path / "index"), *make, "--picture-fps", "2"]
    assert main(index) == 0 and main(["ask", str(tmp_path / "index"), "How many bells?"]) == 0
    assert main(["ask", str(tmp_path / "index"), "How many bells?", "--picture-fps", "3"]) == 2
    assert "sampling: the index" in capsys.readouterr().err
    assert main(["ask", str(root / "video.mp4"), "How many bells?", *make, "--picture-fps", "2"]) == 2
    assert "video.mp4: is no folder of pictures, --picture-fps is for one" in capsys.readouterr().err


def test_an_index_comes_before_the_pictures_beside_it(root, tmp_path, capsys):
    pipeline = Pipeline(tiny_backbone(), Identity(), Annotated(), Constant(1), ratios=(1,))
    store.save(pipeline.index(open_video(root / "pages")), tmp_path / "index")
    (tmp_path / "index" / "shot.png").write_bytes((root / "pages" / "frame_0.png").read_bytes())
    assert main(["ask", str(tmp_path / "index"), "How many bells?"]) == 2
    shipped = X2LTiny.from_pretrained().identity
    assert f"index: was made with backbone 'tiny-0', not '{shipped}'" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert main(["ask", str(tmp_path / "empty"), "How many bells?"]) == 2
    assert "manifest.json: cannot be read, expected an x2l index" in capsys.readouterr().err


# Sources


def test_a_record_becomes_one_question_for_every_turn(root):
    spans = [[0.5, 1.5], [2, 3]]
    file = write(root / "one.json", [record(4, gt_time_span=spans, source="made", weight=3)])
    sample = make_source({"name": "llava", "file": file}, "data").sample(0)
    first, second = sample.questions
    assert (first.text, first.answer, first.history) == ("What is 4?", "It is 4.", ())
    assert (second.text, second.answer, second.history) == ("And then?", "5.", (("What is 4?", "It is 4."),))
    assert [question.id for question in sample.questions] == ["inv_4-0", "inv_4-1"]
    assert {question.group for question in sample.questions} == {"made"}
    assert all(question.gold_spans_s == ((0.5, 1.5), (2.0, 3.0)) for question in sample.questions)
    footage = sample.open(EVERY_FRAME)
    assert shown(footage) == list(range(4, 10)) and sample.asked(footage) == sample.questions


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("<image>\nQuestion: who?\nOptions:\n(A) me\n(B) you", "Question: who?\nOptions:\n(A) me\n(B) you"),
        ("<video>\nWho?", "Who?"),
        ("<image>Who?", "Who?"),
        ("Who?\n<image>", "Who?"),
        ("<image>\n<image>\nWhich is first?", "Which is first?"),
        ("Who?", "Who?"),
    ],
)
def test_the_placeholder_is_removed_from_the_first_turn(root, value, text):
    file = write(root / "turn.json", [record(0, conversations=turns(value, "a"))])
    assert Llava(file).sample(0).questions[0].text == text


def test_lines_of_json_are_records_too(root, tmp_path):
    lines = "\n\n".join(json.dumps(record(number), ensure_ascii=False) for number in (3, 5)) + "\n"
    source = Llava(write(tmp_path / "records.jsonl", lines.replace("And then?", "And\u2028then?")), str(root))
    assert source.ids() == ["inv_3", "inv_5"]
    assert source.sample(1).questions[1].text == "And\u2028then?"
    assert shown(source.sample(1).open(EVERY_FRAME))[0] == 5


def test_folders_of_frames_and_pictures_are_opened_as_such(root):
    pages = [f"pages/frame_{number}.png" for number in (2, 0)]
    data = [
        record(0, video="frames"),
        record(1, video=None, image=pages),
        record(2, video=None, image=pages[0]),
        {"video": "video.mp4", "conversations": turns("Who?", "He.")},
    ]
    source = Llava(write(root / "kinds.json", data), fps=4.0)
    opened = [source.sample(number).open(EVERY_FRAME) for number in range(4)]
    assert [footage.num_frames for footage in opened] == [12, 2, 1, 6]
    assert [footage.duration_s for footage in opened][:3] == [3.0, 0.5, 0.25]
    assert shown(opened[1]) == [2, 0]
    assert source.ids() == ["inv_0", "inv_1", "inv_2", "3"]


def test_gold_frames_become_seconds_when_the_video_is_opened(root):
    data = [
        record(0, video="video.mp4", gt_frame_idx=[5, 1, 2]),
        record(1, video="frames", gt_frame_idx=[4]),
        record(2, gt_frame_idx=[1], gt_time_span=[[0, 1]]),
        record(3, video="video.mp4", gt_frame_idx=[6]),
    ]
    source = Llava(write(root / "gold.json", data))
    samples = [source.sample(number) for number in range(4)]
    asked = [sample.asked(sample.open(Sampling(num_frames=2)))[1] for sample in samples[:3]]
    np.testing.assert_allclose(asked[0].gold_spans_s, ((0.5, 1.5), (2.5, 3.0)), atol=1e-3)
    assert asked[1].gold_spans_s == ((4.0, 5.0),) and asked[2].gold_spans_s == ((0.0, 1.0),)
    with pytest.raises(X2LError, match=r"video\.mp4: has no frame 6, expected one of its 6"):
        samples[3].asked(samples[3].open(Sampling()))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"conversations": None}, "conversations: expected"),
        ({"conversations": []}, "conversations: expected human and gpt in turn, .* got 0"),
        ({"conversations": turns("a", "b", "c")}, "conversations: .*an answer last, got 3 entries"),
        ({"conversations": turns("a", "b")[::-1]}, "conversations.0.from: expected human, got 'gpt'"),
        ({"conversations": [{"from": "system", "value": "a"}]}, "conversations.0.from: .* got 'system'"),
        ({"conversations": [{"value": "a"}]}, "conversations.0.from: expected human, got None"),
        ({"conversations": [{"from": "human"}]}, "conversations.0.value: expected text, got None"),
        ({"conversations": turns("<image>\n", "b")}, "conversations.0.value: is empty"),
        ({"conversations": turns("a", " ")}, "conversations.1.value: is empty"),
        ({"conversations": turns("a", "b", "<image>c", "d")}, "conversations.2.value: has a placeholder"),
        ({"video": 3}, "video: expected str, got 3"),
        ({"video": ""}, "video: is empty, expected a path"),
        ({"video": None, "image": []}, "image: is empty, expected a path"),
        ({"image": "a.png"}, "has video and image, expected one of them"),
        ({"video": None}, r"has neither video nor image, .*drop: \[texts\]"),
        ({"gt_time_span": [[3, 2]]}, "gt_time_span: expected 0 <= start < end, got"),
        ({"gt_time_span": [[3]]}, "gt_time_span.0: expected"),
        ({"gt_frame_idx": ["one"]}, "gt_frame_idx.0: expected int, got 'one'"),
        ({"id": [1]}, "id: expected"),
    ],
)
def test_a_wrong_record_is_one_line_that_names_it(tmp_path, change, message):
    file = write(tmp_path / "bad.json", [record(0), record(1, **change)])
    with pytest.raises(X2LError, match=message) as caught:
        len(Llava(file))
    assert f"{file}: record 1 (" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.json", "{}", "a.json: expected a JSON list of at least one record"),
        ("a.json", "[]", "a.json: expected a JSON list of at least one record"),
        ("a.json", "[3]", "a.json: record 0: expected an object, got 3"),
        ("a.json", "[", "a.json: not JSON"),
        ("a.jsonl", '{"id": 1}\n{', "a.jsonl: line 2: not JSON"),
        ("a.jsonl", "", "a.jsonl: expected a JSON list"),
        ("none.json", None, "none.json: cannot be read"),
        ("none.jsonl", None, "none.jsonl: cannot be read"),
    ],
)
def test_a_file_that_holds_no_records_is_one_line(tmp_path, name, text, message):
    if text is not None:
        write(tmp_path / name, text)
    with pytest.raises(X2LError, match=message):
        len(Llava(str(tmp_path / name)))


def test_what_is_dropped(root):
    data = [
        record(0, conversations=turns("<image>\nPlease describe this video in detail.", "A dog.")),
        record(1, conversations=turns("Write a terse but informative summary of the clip.", "A cat.")),
        record(2, conversations=turns("Describe it.", "A cat.", "What colour is it?", "Black.")),
        record(3, video=None, image="pages/frame_0.png"),
        record(4, video=None),
        record(5, conversations=turns("Which caption is written on the sign?", "None.")),
    ]
    file = write(root / "kinds.json", data)
    assert Llava(file, drop=["texts"]).ids() == ["inv_0", "inv_1", "inv_2", "inv_3", "inv_5"]
    assert Llava(file, drop=["texts", "captions"]).ids() == ["inv_2", "inv_3", "inv_5"]
    assert Llava(file, drop=["texts", "captions", "pictures"]).ids() == ["inv_2", "inv_5"]
    only_text = write(root / "text.json", data[4:5])
    with pytest.raises(X2LError, match=r"text\.json: expected a record that is not dropped"):
        len(Llava(only_text, drop=["texts"]))


def test_records_are_drawn_by_source_and_seed(records):
    one, again, other = (Llava(records, num=8, seed=seed) for seed in (1, 1, 2))
    assert one.ids() == again.ids() != other.ids() and len(set(one.ids())) == 8
    assert one.ids() == sorted(one.ids(), key=lambda name: int(name[4:]))
    for source in (one, other):
        groups = Counter(source.sample(number).questions[0].group for number in range(8))
        assert groups == {"long": 6, "short": 2}
    with pytest.raises(X2LError, match=r"has 12 records to draw from, expected num \(13\)"):
        len(Llava(records, num=13))


def test_shares_are_proportional_and_complete():
    assert proportional({"a": 50, "b": 30, "c": 20}, 10) == {"a": 5, "b": 3, "c": 2}
    assert proportional({"a": 1, "b": 1, "c": 1}, 2) == {"a": 1, "b": 1, "c": 0}
    sizes = {"a": 7, "b": 1, "c": 13, "d": 2}
    for num in range(24):
        shares = proportional(sizes, num)
        assert sum(shares.values()) == num
        assert all(
            abs(shares[name] - size * num / 23) < 1 and shares[name] <= size for name, size in sizes.items()
        )
    assert stratified("aabbb", 5, seed=0) == [0, 1, 2, 3, 4]


def test_needles_are_drawn_anew_from_seed_and_number():
    source, longer = make_source(NEEDLES, "data"), make_source(NEEDLES | {"num": 50}, "data")
    samples = [source.sample(number) for number in range(5)]
    assert [longer.sample(number).questions for number in range(5)] == [one.questions for one in samples]
    footage = [sample.open(Sampling()) for sample in samples]
    assert {opened.num_frames for opened in footage} <= {6, 8, 10} and len(source) == 5
    assert len({opened.num_frames for opened in footage}) > 1
    assert len({opened.fingerprint()["sha256"] for opened in footage}) == 5
    assert footage[0].fingerprint() == longer.sample(0).open(Sampling()).fingerprint()
    assert next(footage[0].clips([2])).frames.shape == (2, 256, 256, 3)
    assert footage[0].duration_s == footage[0].num_frames
    assert len({sample.name for sample in samples}) == 5


def test_needles_keep_gold_spans_and_hide_options():
    for number in range(5):
        sample = make_source(NEEDLES, "data").sample(number)
        shown_too = make_source(NEEDLES | {"show_options": True}, "data").sample(number)
        assert all(not question.options for question in sample.questions)
        assert [replace(question, options=()) for question in shown_too.questions] == [*sample.questions]
        assert all(question.answer in question.options for question in shown_too.questions)
        spans = [question.gold_spans_s for question in sample.questions if question.group == "detail"]
        assert spans and all((end_s - start_s) == 2 for ((start_s, end_s),) in spans)


def test_a_question_that_not_every_video_can_be_asked_is_found():
    """A tie of patterns gives no question: another video is drawn."""
    source = Needles(20, 0, (1, 4), {"pattern": 1}, seconds_per_scene=1)
    assert all(len(source.sample(number).questions) == 1 for number in range(20))
    with pytest.raises(X2LError, match=r"questions: none of before fits videos of \(1, 1\) scenes"):
        Needles(1, 0, (1, 1), {"before": 1}).sample(0)


CAPTIONS = [
    {"start_s": 28, "end_s": 42, "caption": "The dog barks."},
    {"start_s": 0, "end_s": 14, "caption": "A dog sleeps."},
    {"start_s": 14, "end_s": 28, "caption": "Someone  knocks."},
    {"start_s": 42, "end_s": 56, "caption": "Rain."},
    {"start_s": 56, "end_s": 70, "caption": " rain."},
    {"start_s": 70, "end_s": 84, "caption": "A door opens."},
]


@pytest.mark.parametrize("num_options", [2, 4, 6])
def test_vico_asks_for_the_temporal_order_of_captions_that_occur_once(root, tmp_path, num_options):
    captions = {"long/1": CAPTIONS, "long/2": CAPTIONS[3:], "short/9": CAPTIONS[:3]}
    file = write(tmp_path / "captions.json", captions)
    source = Vico(file, 40, str(root), seed=1, num_options=num_options)
    starts_s = {" ".join(caption["caption"].split()): caption["start_s"] for caption in CAPTIONS}
    letters, texts = Counter(), Counter()
    for number in range(len(source)):
        (question,) = source.sample(number).questions
        assert len(set(question.options)) == num_options and question.group == "order"
        assert len({frozenset(option.split(" -> ")) for option in question.options}) == 1
        letter, right = re.fullmatch(r"\((.)\) (.*)", question.answer).groups()
        assert right == question.options["ABCDEF".index(letter)]
        clues = [" ".join(clue.split()) for clue in right.split(" -> ")]
        times_s = [starts_s[clue] for clue in clues]
        assert len(clues) == 3 and times_s == sorted(times_s) and "rain." not in right.lower()
        assert question.gold_spans_s == tuple((start_s, start_s + 14) for start_s in times_s)
        letters[letter] += 1
        texts[right] += 1
    assert len(letters) == num_options and len(texts) > 1
    opened = [source.sample(number).open(EVERY_FRAME) for number in range(4)]
    assert [shown(footage)[0] for footage in opened] == [1, 9, 1, 9], "videos take turns"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "captions.json: expected an object"),
        ({"a.mp4": CAPTIONS[:2]}, "captions.json: expected a video with 3 captions that it has once"),
        ({"a.mp4": [{"start_s": 0, "end_s": 1}]}, "captions.json: a.mp4.0.caption: missing, expected str"),
        ({"a.mp4": [{"start_s": 1, "end_s": 1, "caption": "a"}]}, "a.mp4.0: expected 0 <= start_s < end_s"),
        ({"a.mp4": [{"start_s": 0, "end_s": 1, "caption": " "}]}, "a.mp4.0.caption: expected text"),
        (
            {"a.mp4": [{"start_s": s, "end_s": s + 2, "caption": str(s)} for s in range(3)]},
            "a.mp4: expected captions one behind the other, got one that ends at 2.0 s and one .* 1.0 s",
        ),
    ],
)
def test_wrong_captions_are_one_line(tmp_path, data, message):
    with pytest.raises(X2LError, match=message):
        Vico(write(tmp_path / "captions.json", data), 1).sample(0)


def test_a_mixture_has_the_samples_of_its_parts(records):
    parts = [{"name": "llava", "file": records, "num": 3}, NEEDLES]
    source = make_source({"name": "mixture", "parts": parts}, "data")
    names = [source.sample(number).name for number in range(len(source))]
    assert names == [*Llava(records, num=3).ids(), *(f"needles-3-{number}" for number in range(5))]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("llava", "data: expected a mapping with a name, one of folder, haystack, llava, .*, got 'llava'"),
        ({"file": "a"}, "data: expected a mapping with a name"),
        ({"name": "lava"}, "data.name 'lava': unknown, .*did you mean 'llava'"),
        ({"name": "llava"}, "data.file: missing, expected str"),
        ({"name": "llava", "file": "a", "num": 0}, "data.num: expected at least one record, got 0"),
        ({"name": "llava", "file": "a", "seed": -1}, "data.seed: expected 0 or more"),
        ({"name": "llava", "file": "a", "fps": 0.0}, "data.fps: expected pictures per second above 0"),
        ({"name": "llava", "file": "a", "drop": ["text"]}, "data.drop.0: expected captions or pictures"),
        (NEEDLES | {"num": 0}, "data.num: expected at least one video"),
        (NEEDLES | {"seed": -1}, "data.seed: expected 0 or more"),
        (NEEDLES | {"chunks": [3, 2]}, r"data.chunks: expected 1 <= fewest <= most, got \[3, 2\]"),
        (NEEDLES | {"chunks": 3}, "data.chunks: expected"),
        (NEEDLES | {"seconds_per_scene": 0}, "data.seconds_per_scene: expected 1 or more"),
        (NEEDLES | {"questions": {"why": 1}}, "data.questions.why: expected one of"),
        (NEEDLES | {"split": "test"}, "data.split: expected one of"),
        ({"name": "vico", "captions": "a", "num": 0}, "data.num: expected at least one question"),
        ({"name": "vico", "captions": "a", "num": 1, "seed": -1}, "data.seed: expected 0 or more"),
        ({"name": "vico", "captions": "a", "num": 1, "num_options": 7}, "data.num_options: expected 2 to 6"),
        ({"name": "mixture", "parts": []}, "data.parts: expected at least one source"),
        ({"name": "mixture", "parts": [NEEDLES, {"name": "no"}]}, "data.parts.1.name 'no': unknown"),
        ({"name": "mixture", "parts": [NEEDLES | {"num": 0}]}, "data.parts.0.num: expected"),
    ],
)
def test_a_wrong_source_is_one_line_that_names_the_field(spec, message):
    with pytest.raises(X2LError, match=message):
        make_source(spec, "data")


def test_what_the_page_shows_can_be_used(tmp_path, monkeypatch):
    page = PAGE.read_text(encoding="utf-8")
    blocks = dict.fromkeys(("json", "yaml", "python"))
    blocks = {language: re.findall(rf"```{language}\n(.*?)```", page, re.S) for language in blocks}
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path)
    for name, text in zip(("records", "captions"), blocks["json"], strict=True):
        write(tmp_path / "data" / f"{name}.json", text)
    sources = [make_source(yaml.safe_load(text)["data"], "data") for text in blocks["yaml"]]
    assert [len(source) for source in sources] == [2, 500, 100000, 3 + 500 + 1000]
    assert all(isinstance(source, Data) and source.sample(0).questions for source in sources)
    found = {}
    exec(blocks["python"][0], found)
    assert found["ids"] == sources[0].ids()
    assert sources[1].sample(0).questions[0].answer[4:] in page


# Which sample comes when


def data_of(records: str, **fields) -> VideoQADataModule:
    fields = {"chunk_frames": 4, "num_steps": 8, "seed": 5} | fields
    return VideoQADataModule({"name": "llava", "file": records}, **fields)


def videos_of(data: VideoQADataModule, **fields) -> TrainingVideos:
    return replace(data.train_dataloader().dataset, **fields)


def seen(batches) -> list[tuple]:
    return [(batch.number, batch.name, [question.id for question in batch.questions]) for batch in batches]


def test_a_batch_is_a_decoded_video_with_its_questions(records, root):
    data = data_of(records)
    batch = next(iter(data.train_dataloader()))
    number = int(batch.name[4:])
    video = open_video(root / place_of(number))
    assert [len(clip.frames) for clip in batch.clips] == [4, 2]
    assert [shown_index(frame) for clip in batch.clips for frame in clip.frames] == shown(video)
    assert (batch.facts, batch.fingerprint) == (video.facts, video.fingerprint())
    assert (batch.number, batch.chunk_frames, batch.skipped) == (0, 4, ())
    assert len(batch.questions) == 2 and batch.to(torch.device("cpu")) is batch


def test_every_epoch_has_every_sample_once_in_an_order_of_its_own(records):
    names = [batch.name for batch in data_of(records, num_steps=30).train_dataloader()]
    epochs = [names[:12], names[12:24]]
    assert all(sorted(epoch) == sorted(Llava(records).ids()) for epoch in epochs)
    assert epochs[0] != epochs[1] and len(names) == 30
    other = [batch.name for batch in data_of(records, num_steps=12, seed=6).train_dataloader()]
    assert other != epochs[0]


@pytest.mark.parametrize("num_workers", [1, 2])
def test_loading_processes_change_nothing(records, num_workers):
    fields = {"questions_per_video": 1, "num_steps": 6}
    alone = seen(data_of(records, **fields).train_dataloader())
    together = data_of(records, num_workers=num_workers, **fields).train_dataloader()
    assert seen(together) == alone and len(together) == 6


def test_two_devices_see_what_one_sees_that_accumulates_two(records):
    one = seen(videos_of(data_of(records, num_steps=8, accumulate=2, questions_per_video=1)))
    data = data_of(records, num_steps=8, questions_per_video=1)
    ranks = [videos_of(data, rank=rank, world_size=2) for rank in (0, 1)]
    assert [len(videos) for videos in ranks] == [8, 8] and len(one) == 16
    assert [batch for step in zip(*map(seen, ranks), strict=True) for batch in step] == one


def test_a_later_start_goes_on_with_what_would_have_come(records):
    data = data_of(records, num_steps=8, accumulate=2, questions_per_video=1)
    whole = videos_of(data, rank=1, world_size=2)
    rest = replace(whole, first=5)
    assert seen(rest) == seen(whole)[5:] and len(rest) == len(whole) == 16


def test_a_random_part_of_the_questions_changes_from_step_to_step(records):
    batches = list(data_of(records, num_steps=24, questions_per_video=1).train_dataloader())
    assert all(len(batch.questions) == 1 for batch in batches)
    assert {batch.questions[0].id[-1] for batch in batches} == {"0", "1"}
    whole = data_of(records, num_steps=2, questions_per_video=9).train_dataloader()
    assert [len(batch.questions) for batch in whole] == [2, 2]


def test_what_loads_can_be_sent_to_another_process(records, root, tmp_path):
    captions = write(tmp_path / "captions.json", {"video.mp4": CAPTIONS})
    parts = [{"name": "llava", "file": records, "num": 2}, NEEDLES | {"num": 2}]
    parts.append({"name": "vico", "captions": captions, "dir": str(root), "num": 2})
    data = VideoQADataModule({"name": "mixture", "parts": parts}, num_steps=6, chunk_frames=4)
    videos = data.train_dataloader().dataset
    before = pickle.loads(pickle.dumps(videos))
    alone = list(videos)
    after = pickle.loads(pickle.dumps(videos))
    assert seen(before) == seen(after) == seen(alone)
    assert len({batch.name for batch in alone}) == 6
    again = pickle.loads(pickle.dumps(alone[0]))
    assert again.questions == alone[0].questions and again.fingerprint == alone[0].fingerprint
    sample = data.train_source.sample(0)
    assert asdict(pickle.loads(pickle.dumps(sample)))["questions"] == asdict(sample)["questions"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"chunk_frames": 0}, "chunk_frames: expected a positive integer or scenes, got 0"),
        ({"num_steps": 0}, "num_steps: expected 1 or more"),
        ({"accumulate": 0}, "accumulate: expected 1 or more"),
        ({"seed": -1}, "seed: expected 0 or more"),
        ({"num_workers": -1}, "num_workers: expected 0 or more"),
        ({"questions_per_video": 0}, "questions_per_video: expected 1 or more"),
        ({"max_broken_share": 1.5}, "max_broken_share: expected a number from 0 to 1"),
        ({"sampling": {"rate": 1}}, "sampling.rate: unknown"),
        ({"sampling": {"fps": -1.0}}, "sampling.fps: expected"),
        ({"val": {"name": "needles"}}, "val.num: missing"),
    ],
)
def test_a_wrong_field_of_the_data_is_one_line(fields, message):
    with pytest.raises(X2LError, match=message):
        VideoQADataModule(NEEDLES, **{"num_steps": 1} | fields)


# Held-out questions


@pytest.mark.parametrize(("world_size", "num_workers"), [(1, 0), (1, 2), (2, 0), (5, 0)])
def test_held_out_samples_come_once_on_one_of_the_devices(records, world_size, num_workers):
    data = data_of(records, val={"name": "llava", "file": records}, num_workers=num_workers)
    whole = data.val_dataloader()
    loaders = [
        DataLoader(
            replace(whole.dataset, rank=rank, world_size=world_size), batch_size=None, num_workers=num_workers
        )
        for rank in range(world_size)
    ]
    names = [[batch.name for batch in loader] for loader in loaders]
    assert sorted(name for row in names for name in row) == sorted(Llava(records).ids())
    assert [len(loader) for loader in loaders] == [len(row) for row in names]


def test_without_held_out_questions_there_is_no_loader(records):
    assert data_of(records).val_dataloader() == []


# Broken videos


def broken_records(root: Path, tmp_path: Path, num: int, broken: dict[int, str]) -> str:
    """Twelve videos again and again, `broken` ones missing or cut short."""
    cut = cut_short(root / "video.mp4", tmp_path / "cut.mp4")
    data = []
    for number in range(num):
        place = {"cut": str(cut), "missing": "none.mp4", None: str(root / place_of(number % 12))}
        data.append(record(number, video=place[broken.get(number)]))
    return write(tmp_path / "broken.json", data)


def test_a_broken_video_gives_way_to_the_next_of_its_epoch(root, tmp_path):
    broken = {3: "cut", 7: "missing"}
    whole = data_of(broken_records(root, tmp_path, 10, {}), num_steps=20)
    order = [batch.name for batch in whole.train_dataloader()]
    data = data_of(broken_records(root, tmp_path, 10, broken), num_steps=20, max_broken_share=0.2)
    batches = list(data.train_dataloader())
    for place, batch in enumerate(batches):
        epoch = order[place // 10 * 10 :][:10]
        from_here = epoch[place % 10 :] + epoch[: place % 10]
        names = [name for name in from_here if name not in ("inv_3", "inv_7")]
        assert batch.name == names[0]
        assert [line.partition(":")[0] for line in batch.skipped] == from_here[: from_here.index(names[0])]
    lines = {line for batch in batches for line in batch.skipped}
    assert len(lines) == 2
    assert any(re.fullmatch(r"inv_3: .*cut\.mp4: .*", line) for line in lines)
    assert any(re.fullmatch(r"inv_7: .*none\.mp4: no such file", line) for line in lines)
    again = data_of(str(tmp_path / "broken.json"), num_steps=20, max_broken_share=0.2, num_workers=2)
    assert seen(again.train_dataloader()) == seen(batches)


def test_a_gold_frame_that_is_not_there_makes_a_video_broken(root, tmp_path):
    data = [record(number, gt_frame_idx=[6 if number == 1 else 5]) for number in range(4)]
    file = write(root / "gold_broken.json", data)
    batches = list(data_of(file, num_steps=4, max_broken_share=0.5).train_dataloader())
    assert any("inv_1: " in line and "has no frame 6" in line for batch in batches for line in batch.skipped)


def test_a_first_broken_video_stops_no_long_run(root, tmp_path):
    file = broken_records(root, tmp_path, 60, {number: "missing" for number in (0, 20, 40)})
    batches = list(data_of(file, num_steps=60).train_dataloader())
    assert len({line for batch in batches for line in batch.skipped}) == 3


def test_too_many_broken_videos_stop_the_run_and_are_named(root, tmp_path):
    file = broken_records(root, tmp_path, 60, {number: "missing" for number in range(0, 60, 4)})
    with pytest.raises(
        X2LError, match=r"4 of \d+ videos are broken, more than max_broken_share 0.05"
    ) as caught:
        list(data_of(file, num_steps=60).train_dataloader())
    assert str(caught.value).count("none.mp4: no such file") == 4 and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("share", "message", "num_workers"),
    [
        (0.05, "2 of 2 videos are broken", 0),
        (0.05, "2 of 2 videos are broken", 1),
        (1.0, "none of the 30", 0),
    ],
)
def test_where_all_are_broken_a_run_stops_at_once(root, tmp_path, share, message, num_workers):
    file = broken_records(root, tmp_path, 30, dict.fromkeys(range(30), "missing"))
    data = data_of(file, num_steps=60, max_broken_share=share, num_workers=num_workers)
    with pytest.raises(X2LError, match=message):
        list(data.train_dataloader())


@pytest.mark.parametrize("broken", [[0], [11], [4, 5], [0, 10, 11]])
def test_broken_held_out_videos_are_left_out_and_told_of(root, tmp_path, broken):
    file = broken_records(root, tmp_path, 12, dict.fromkeys(broken, "missing"))
    data = data_of(file, val={"name": "llava", "file": file}, max_broken_share=0.5)
    batches = list(data.val_dataloader())
    assert [batch.name for batch in batches] == [f"inv_{i}" for i in range(12) if i not in broken]
    told = [line.partition(":")[0] for batch in batches for line in batch.skipped]
    assert told == [f"inv_{i}" for i in broken]


def test_held_out_videos_that_are_all_broken_are_one_line(root, tmp_path):
    file = broken_records(root, tmp_path, 3, dict.fromkeys(range(3), "missing"))
    data = data_of(file, val={"name": "llava", "file": file}, max_broken_share=1.0)
    (batch,) = data.val_dataloader()
    assert batch.questions == () and len(batch.skipped) == 3
    look = BrokenVideos()
    look.on_validation_epoch_start(None, None)
    look.on_validation_batch_start(None, None, batch, 0)
    with pytest.raises(X2LError, match=r"val: none of the videos can be read; inv_0: .*no such file"):
        look.on_validation_epoch_end(None, None)


def test_a_loading_process_that_finds_only_broken_videos_stops_nothing(root, tmp_path):
    file = broken_records(root, tmp_path, 4, {1: "missing", 3: "missing"})
    data = data_of(file, val={"name": "llava", "file": file}, max_broken_share=0.5, num_workers=2)
    batches = list(data.val_dataloader())
    assert {batch.name for batch in batches if batch.questions} == {"inv_0", "inv_2"}
    assert sum(len(batch.skipped) for batch in batches) == 2


def test_what_is_wrong_with_the_source_is_no_broken_video(tmp_path):
    file = write(tmp_path / "records.json", [record(0, conversations=[])])
    with pytest.raises(X2LError, match="conversations: expected human and gpt"):
        next(iter(data_of(file, max_broken_share=1.0).train_dataloader()))


# In Lightning


class Toy(lightning.LightningModule):
    """Notes what it is shown."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen, self.held_out = [], []

    def training_step(self, batch: VideoQA, _):
        self.seen += seen([batch])
        return self.weight.square()

    def validation_step(self, batch: VideoQA, _):
        self.held_out.append(batch.name)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


class SaveAt(lightning.Callback):
    """Writes a checkpoint behind a step."""

    def __init__(self, path: Path, step: int):
        self.path, self.step = path, step

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx: int) -> None:
        if trainer.global_step == self.step and (batch_idx + 1) % trainer.accumulate_grad_batches == 0:
            trainer.save_checkpoint(self.path, weights_only=False)


def fit(data: VideoQADataModule, path: Path, save_at: int = 0, resumes: bool = False) -> Toy:
    module = Toy()
    trainer = lightning.Trainer(
        default_root_dir=path.parent,
        accelerator="cpu",
        max_epochs=1,
        accumulate_grad_batches=data.accumulate,
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
        callbacks=[BrokenVideos(), SaveAt(path, save_at)],
    )
    trainer.fit(module, data, ckpt_path=path if resumes else None, weights_only=True if resumes else None)
    assert trainer.global_step == data.num_steps
    return module


@pytest.mark.filterwarnings("ignore")
def test_a_resumed_run_goes_on_exactly(records, tmp_path):
    def data() -> VideoQADataModule:
        return data_of(records, num_steps=5, accumulate=2, val={"name": "llava", "file": records, "num": 3})

    whole = fit(data(), tmp_path / "last.ckpt", save_at=2)
    assert len(whole.seen) == 10 and len(whole.held_out) == 3
    rest = fit(data(), tmp_path / "last.ckpt", resumes=True)
    assert rest.seen == whole.seen[4:] and rest.held_out == whole.held_out


def test_a_run_warns_once_of_all_broken_videos_also_of_those_before_it_was_resumed(root, tmp_path):
    file = broken_records(root, tmp_path, 10, {3: "cut", 7: "missing"})
    held_out = {
        "name": "llava",
        "file": broken_records(root, tmp_path, 10, {3: "cut", 7: "missing", 9: "cut"}),
    }
    data = data_of(file, num_steps=20, val=held_out, max_broken_share=0.5)
    for resumes in (False, True):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            fit(data, tmp_path / "last.ckpt", 18, resumes)
    (line,) = [str(one.message) for one in caught if "broken" in str(one.message)]
    assert line.startswith("3 broken videos were passed over: ")
    assert all(name in line for name in ("inv_3: ", "inv_7: ", "inv_9: ")) and "\n" not in line


def test_a_run_without_broken_videos_says_nothing(records, tmp_path):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit(data_of(records, num_steps=2), tmp_path / "last.ckpt")
    assert not [one for one in caught if "broken" in str(one.message)]

"""A folder of needle videos with their questions: an evaluation split that a seed defines.

    DIR/videos/0000.mp4 ...   H.264, four frames per second
    DIR/questions.json        one record per question, in VNBench's format plus id, group and gold_spans_s
    DIR/dataset.json          seed, split and sizes, encoder, versions, sha256 of every video

What is guaranteed: video i and its questions depend on (seed, i) and the arguments alone, not on the number
of videos or on which were written before, so a dataset is resumed and extended without writing a video twice.
Where the encoder (libx264, FFmpeg) differs, the scripts, the questions and their answers are identical, and
the bytes of the mp4 files are not. `dataset.json` names the encoder and the sha256 of every file, so that a
difference is seen.

Source: VNBench (arXiv 2406.09367) for the record: video, question, options, gt (the value), type, try. All
tries are 0: the options are shuffled once.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
from tqdm import tqdm

import x2l
from x2l.config.paths import local_path
from x2l.items import kind_of
from x2l.needles.questions import GROUPS
from x2l.needles.video_file import write_video
from x2l.needles.videos import NeedleVideos
from x2l.questions import read_questions
from x2l.storage.files import make_folder, read_json, turn_in, write_json
from x2l.types import Question, X2LError

VIDEOS, QUESTIONS, DATASET = "videos", "questions.json", "dataset.json"
DEFAULT_QUESTIONS = {
    "detail": 3,
    "before": 1,
    "after": 1,
    "count": 1,
    "exist": 1,
    "daynight": 1,
    "pattern": 1,
}

Item = tuple[Path, list[Question]]
"""A video file and its questions."""


def write_dataset(
    out: str | Path,
    num: int,
    seed: int,
    chunks: int,
    split: str = "eval",
    questions: Mapping[str, int] | None = None,
    size: int = 256,
    fps: float = 4.0,
    seconds_per_scene: int = 10,
    progress: bool = False,
) -> Path:
    """Write `num` needle videos of `chunks` scenes and their questions (count by kind); returns the folder.

    Raises X2LError for bad numbers, and if the folder holds a dataset with other arguments.
    """
    videos = NeedleVideos(seed, chunks, split, size, fps, seconds_per_scene)
    counts = checked_counts(DEFAULT_QUESTIONS if questions is None else questions)
    write_videos(out, num, videos, partial(videos.questions, counts=counts), counts, progress)
    return Path(out)


def write_videos(
    out: str | Path,
    num: int,
    videos: NeedleVideos,
    ask: Callable[[int], list[Question]],
    counts: Mapping[str, int],
    progress: bool = False,
) -> list[Item]:
    """Write the first `num` of `videos` and what `ask` asks about each (count by kind); returns those.

    Videos that are there already stay as they are, also those beyond `num`: a dataset never shrinks. Its
    questions are written anew, for all of its videos. Nothing is ever half written.
    Raises X2LError for no videos or questions, and if the folder holds a dataset with other arguments.
    """
    out = Path(out)
    if num < 1:
        raise X2LError(f"num: expected at least one video, got {num}")
    questions = [ask(number) for number in range(num)]
    if not any(questions):
        raise X2LError(
            f"questions: {counts} cannot be asked of {videos.chunks} chunks, expected at least one question"
        )
    make_folder(out)
    with turn_in(out):
        _write_whole(out, videos, questions, ask, counts, progress)
    # Not read back: another evaluation may ask other questions of the same folder meanwhile.
    return [(out / VIDEOS / videos.name(number), row) for number, row in enumerate(questions) if row]


def read_dataset(folder: str | Path) -> list[Item]:
    """The videos of a folder, in the order of questions.json, each with its questions.

    Records are as x2l.questions reads them, such as VNBench's own; a question without a group or type is of
    the group "question". Raises X2LError naming the file, the record and the field that is wrong.
    """
    folder = local_path(folder)
    path = folder / QUESTIONS
    items: dict[str, list[Question]] = {}
    for number, (video, question) in enumerate(read_questions(path)):
        if not video:
            raise X2LError(f"{path}: record {number}.video: missing, expected a file")
        asked = items.setdefault(video, [])
        if question.id in {other.id for other in asked}:
            raise X2LError(f"{path}: record {number}.id: {question.id!r} occurs twice for {video}")
        asked.append(replace(question, group=question.group or "question"))
    return [(_find_video(folder, video), questions) for video, questions in items.items()]


def checked_counts(questions: Mapping[str, int]) -> dict[str, int]:
    """The number of questions by kind; raises X2LError for an unknown kind or no question at all."""
    for kind, count in questions.items():
        if kind not in GROUPS:
            raise X2LError(f"questions.{kind}: expected one of {', '.join(GROUPS)}")
        if count < 0:
            raise X2LError(f"questions.{kind}: expected 0 or more, got {count}")
    if not sum(questions.values()):
        raise X2LError("questions: expected at least one question")
    return dict(questions)


def _write_whole(
    out: Path,
    videos: NeedleVideos,
    questions: list[list[Question]],
    ask: Callable[[int], list[Question]],
    counts: Mapping[str, int],
    progress: bool,
) -> None:
    """Bring a folder up to the first videos, one for each of `questions`, and those that it holds beyond."""
    before = _existing(out, videos)
    if not before:
        write_json(out / DATASET, _description(videos, counts, {}))
    known = before.get("videos", {})
    every = questions + [ask(number) for number in range(len(questions), len(known))]
    make_folder(out / VIDEOS)
    digests = _write_videos(out, videos, len(every), known, progress)
    records = [_record(name, asked) for name, row in zip(digests, every, strict=True) for asked in row]
    write_json(out / QUESTIONS, records)
    write_json(out / DATASET, _description(videos, counts, digests))


def _write_videos(
    out: Path, videos: NeedleVideos, num: int, known: Mapping[str, str], progress: bool
) -> dict[str, str]:
    """sha256 by file name. A file whose sha256 is not the one that was noted is written again."""
    digests = {}
    bar = tqdm(range(num), "needle videos", unit="video", delay=1, disable=not progress)
    for number in bar:
        name = videos.name(number)
        path = out / VIDEOS / name
        # A video appears under its name only when it is complete.
        digest = _sha256(path) if path.is_file() else None
        if digest is None or digest != known.get(name, digest):
            write_video(path, videos.frames(number), videos.fps)
            digest = _sha256(path)
        digests[name] = digest
    return digests


def _record(name: str, question: Question) -> dict[str, Any]:
    return {
        "video": f"./{VIDEOS}/{name}",
        "question": question.text,
        "options": list(question.options),
        "gt": question.answer,
        "type": kind_of(question),
        "try": 0,
        "id": question.id,
        "group": question.group,
        "gold_spans_s": question.gold_spans_s,
    }


def _description(
    videos: NeedleVideos, counts: Mapping[str, int], digests: Mapping[str, str]
) -> dict[str, Any]:
    libraries = {name: ".".join(map(str, number)) for name, number in av.library_versions.items()}
    return {
        "arguments": asdict(videos),
        "questions": dict(counts),
        "num": len(digests),
        "encoder": {"codec": "libx264", **libraries},
        "versions": {"x2l": x2l.__version__, "numpy": np.__version__, "av": av.__version__},
        "videos": dict(digests),
    }


def _existing(out: Path, videos: NeedleVideos) -> dict[str, Any]:
    """Contents of dataset.json, or {}; raises X2LError if its videos are others."""
    path = out / DATASET
    if not path.is_file():
        if out.is_dir() and any(not path.name.startswith(".") for path in out.iterdir()):
            raise X2LError(f"{out}: expected a new folder or a needle dataset, found other files")
        return {}
    description = read_json(path)
    arguments_there = description.get("arguments", {}) if isinstance(description, dict) else {}
    for name, value in json.loads(json.dumps(asdict(videos))).items():
        if arguments_there.get(name) != value:
            there = arguments_there.get(name)
            raise X2LError(f"{out}: holds videos with {name} {there!r}, not {value!r}; choose another folder")
    return description


def _find_video(folder: Path, video: str) -> Path:
    """VNBench's records name a folder that need not be the one the videos were saved in."""
    name = local_path(video).name
    places = [folder / video, folder / VIDEOS / name, folder / name]
    return next((place for place in places if place.is_file()), places[0])


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()

"""Answers to what an evaluation asks about many videos in any order; each video is indexed once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tqdm import tqdm

from x2l.lmms.generation import until
from x2l.pipeline import Pipeline


@dataclass(frozen=True)
class Request:
    """A prompt about a video, which is the question as it stands. generation: of `Pipeline.ask`."""

    video: str
    prompt: str
    generation: Mapping[str, Any]


def answers(pipeline: Pipeline, requests: Sequence[Request], progress: bool = False) -> list[str]:
    """The answers in the order of the requests; without the text that they stop at, and what is behind it.

    Raises X2LError naming a video that cannot be read.
    """
    by_video: dict[str, list[int]] = {}
    for number, request in enumerate(requests):
        by_video.setdefault(request.video, []).append(number)
    said = [""] * len(requests)
    with tqdm(total=len(requests), desc="x2l", unit="question", disable=not progress) as bar:
        for video, numbers in by_video.items():
            index = pipeline.index(video)
            for number in numbers:
                request = requests[number]
                answer = pipeline.ask(index, request.prompt, **request.generation)
                said[number] = until(answer.text, request.generation.get("stop_strings", ()))
                bar.update()
    return said

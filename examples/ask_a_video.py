"""Index a video once and ask it: python examples/ask_a_video.py [VIDEO QUESTION ...] [--quick]

Without arguments it asks the sample video the questions beside it. x2l-tiny knows the words of these only.
For other videos build another backbone, {"name": "qwen2_5_vl", "model": FOLDER}, and "mean_pool" KVs.
"""

import argparse
from pathlib import Path

from x2l import Pipeline, build
from x2l.questions import read_questions
from x2l.scoring import is_right
from x2l.types import Question
from x2l.video import Sampling

HERE = Path(__file__).parent


def main(video: Path, questions: list[str], quick: bool) -> float | None:
    """Print an answer to each question; returns the share of right ones, where that is known."""
    sample = [question for _, question in read_questions(HERE / "questions.json")]
    asked = [Question(text) for text in questions] or sample
    pipeline = Pipeline(
        backbone=build("backbone", "x2l_tiny"),
        compressor=build("compressor", {"name": "vst", "passes": "clustered"}),  # alike L-KVs
        oracle=build("oracle", "attention"),
        selector=build("selector", {"name": "top_k", "k": 3}),  # three chunks in detail
        sampling=Sampling(44) if quick else Sampling(),  # frames in all, or one a second
    )
    index = pipeline.index(video, progress=True)  # the expensive part, once per video
    print(f"{len(index.chunks)} chunks, {index.num_bytes / 1e6:.1f} MB of keys and values")

    right = []
    for question, answer in zip(asked, pipeline.ask_many(index, asked), strict=True):
        seen = ", ".join(f"{span.start_s:.0f}-{span.end_s:.0f} s" for span in answer.evidence)
        print(f"\n{question.text}\n  {answer.text}")
        print(f"  in detail: {seen or 'nothing'}; {answer.cache_reduction:.0%} of the cache gone")
        if question.answer is not None:
            right.append(is_right(answer.text, question))
            print(f"  {'right' if right[-1] else f'wrong, it is {question.answer}'}")
    return sum(right) / len(right) if right else None


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("video", nargs="?", default=HERE / "needles.mp4", type=Path)
    parser.add_argument("questions", nargs="*")
    parser.add_argument("--quick", action="store_true", help="look at 44 frames only")
    main(**vars(parser.parse_args()))

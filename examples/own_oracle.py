"""An oracle of one's own beside a shipped one: python examples/own_oracle.py [--quick]

Questions about the sample video name scenes by the colour of their border. This oracle looks for it.
"""

import sys
from pathlib import Path

import torch
from matplotlib.colors import to_rgb

import x2l
from x2l.interfaces import Oracle
from x2l.questions import read_questions
from x2l.video import Sampling

HERE = Path(__file__).parent
COLOURS = ("crimson", "lime", "teal", "navy", "violet", "ivory", "black")  # as matplotlib knows them


@x2l.register("border")
class Border(Oracle):
    """Share of a chunk's border that has a colour which the question names."""

    def prepare(self, chunk, backbone):  # once per chunk, while indexing; stored with the index
        top = torch.from_numpy(chunk.frames[0, 2:10]).float() / 255  # rows of its first frame, RGB
        return {"pixels": top.flatten(0, 1)}

    def score(self, question, index, backbone):  # once per question; higher = more relevant
        named = [torch.tensor(to_rgb(colour)) for colour in COLOURS if f"{colour} frame" in question.text]
        if not named:
            return None  # nothing to say: the selector loads no detail
        borders = torch.stack([stored["pixels"] for stored in self.features(index)])
        alike = [(borders - colour).norm(dim=-1) < 0.3 for colour in named]
        return torch.stack(alike).float().mean(dim=-1).amax(dim=0)  # of two colours, the one that is there


def main(quick: bool) -> dict[str, float]:
    """Print and return each oracle's recall: the share of chunks with an answer that are loaded in detail."""
    asked = [question for _, question in read_questions(HERE / "questions.json") if question.gold_spans_s]
    parts = x2l.build("backbone", "x2l_tiny"), x2l.build("compressor", "mean_pool")
    recall, index, video = {}, None, HERE / "needles.mp4"
    for name in ("border", "attention"):
        oracle, selector = x2l.build("oracle", name), x2l.build("selector", "top_k")
        pipeline = x2l.Pipeline(*parts, oracle, selector, sampling=Sampling(44) if quick else Sampling())
        # The second oracle looks at the frames too, but nothing is pre-filled again.
        index = pipeline.with_features(index, video) if index else pipeline.index(video)
        found = []
        for question in asked:
            for chunk, ratio in zip(index.chunks, pipeline.plan(question, index).ratios, strict=True):
                if any(start <= chunk.end_s and chunk.start_s < end for start, end in question.gold_spans_s):
                    found.append(ratio == index.ratios[0])
        recall[name] = sum(found) / len(found)
        print(f"{name:10} loads {recall[name]:.0%} of the chunks with an answer")
    return recall


if __name__ == "__main__":
    main(quick="--quick" in sys.argv)

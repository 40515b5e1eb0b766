"""How many chunks in detail, how coarse the others? python examples/ablation.py [--quick] [--out FOLDER]

The sample video is indexed once, at three levels; every setting is a plan on that index. Twelve questions are
no measurement: `x2l eval` makes such a table with intervals (docs/evaluation.md).
"""

import argparse
from pathlib import Path
from statistics import mean

from matplotlib.figure import Figure

from x2l import Pipeline, build
from x2l.questions import read_questions
from x2l.scoring import is_right
from x2l.video import Sampling

HERE = Path(__file__).parent


def main(quick: bool, out: Path) -> list[tuple[int, int, float, float]]:
    """Print, draw and return (k, ratio of the others, accuracy, share of the cache gone) of each setting."""
    asked = [question for _, question in read_questions(HERE / "questions.json")]
    pipeline = Pipeline(
        build("backbone", "x2l_tiny"),
        build("compressor", {"name": "vst", "passes": "clustered"}),  # coarse: clusters of 2x
        build("oracle", "attention"),
        build("selector", "top_k"),
        ratios=(2, 8, 32),
        sampling=Sampling(44) if quick else Sampling(),  # frames in all, or one a second
    )
    index = pipeline.index(HERE / "needles.mp4")
    rows = []
    print("k  others  right  cache gone")
    for others in (32,) if quick else (8, 32):
        for k in (0, 3) if quick else (0, 1, 2, 3, 4, 6):
            pipeline.selector = build("selector", {"name": "top_k", "k": k, "gist_ratio": others})
            answers = pipeline.ask_many(index, asked)
            right = mean(is_right(a.text, q) for a, q in zip(answers, asked, strict=True))
            gone = mean(answer.cache_reduction for answer in answers)
            rows.append((k, others, right, gone))
            print(f"{k}  {others:>5}x  {right:5.2f}  {gone:10.0%}")
    figure = Figure(figsize=(5, 3.5), layout="constrained")
    axes = figure.add_subplot(xlabel="share of the cache that is gone", ylabel="right answers", ylim=(0, 1))
    for others in sorted({row[1] for row in rows}):
        points = [(gone, right) for _, ratio, right, gone in rows if ratio == others]
        axes.plot(*zip(*points, strict=True), marker="o", label=f"others at {others}x")
    axes.legend()
    out.mkdir(exist_ok=True)
    figure.savefig(out / "ablation.png")
    return rows


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("runs"))
    main(**vars(parser.parse_args()))

"""Writes examples/needles.mp4 and examples/questions.json: python examples/make_sample.py

The video is one draw of the generator over evaluation footage, with a seed that no recipe uses; the questions
are the first draw of every kind, not chosen by what a model gets right.
"""

import json
from pathlib import Path

import numpy as np

from x2l.needles import backgrounds
from x2l.needles.questions import ask_all
from x2l.needles.render import Renderer
from x2l.needles.video_file import write_video
from x2l.needles.world import write_script

SEED = 2026
FOLDER = Path(__file__).parent
QUESTIONS = {"detail": 5, "before": 2, "after": 1, "count": 1, "exist": 1, "daynight": 1, "pattern": 1}
FPS = 4

rng = np.random.default_rng(SEED)
footage = backgrounds.load("eval", SEED)
script = write_script(rng, num_scenes=22, last_scene_seconds=5, num_backgrounds=len(footage))
renderer = Renderer(256, footage)
frames = (renderer.frame(script, i / FPS) for i in range(script.num_seconds * FPS))
num_bytes = write_video(FOLDER / "needles.mp4", frames, fps=FPS, crf=28)

questions = ask_all(script, rng, QUESTIONS, inner_only=True)
records = [
    {"id": q.id, "question": q.text, "gt": q.answer, "group": q.group, "gold_spans_s": q.gold_spans_s}
    for q in questions
]
(FOLDER / "questions.json").write_text(json.dumps(records, indent=1) + "\n")
print(f"needles.mp4: {num_bytes / 1e6:.1f} MB, {script.num_seconds} s; {len(records)} questions")

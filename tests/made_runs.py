"""Folders of results as `x2l eval` leaves them, of answers that a test makes up."""

import json
from pathlib import Path

SESSION = {
    "date": "2026-01-02T03:04:05+00:00",
    "devices": ["abacus"],
    "num_threads": 1,
    "versions": {"x2l": "0.1.0"},
    "git": {"commit": "0123456789abcdef", "dirty": False},
}


def made_run(folder: Path, rows: dict[str, list[dict]], claims: list[dict] | None = None) -> Path:
    """A run whose rows answered the same questions: of each answer, what is not as in `answer`."""
    folder.mkdir(parents=True)
    lines = [answer(i) | own | {"row": row} for row, answers in rows.items() for i, own in enumerate(answers)]
    asked: dict[str, dict[str, str]] = {}
    for line in lines:
        asked.setdefault(line["video"], {})[line["question"]] = line["asked"]
    run = {
        "recipe": {"data": {"name": "folder"}, "rows": {name: {} for name in rows}, "claims": claims or []},
        **{name: "f" * 64 for name in ("recipe_hash", "questions_hash", "asked_hash")},
        "asked": asked,
        "backbones": {name: "weights" for name in rows},
        "oracles": {},
        "sessions": [SESSION],
    }
    (folder / "run.json").write_text(json.dumps(run))
    (folder / "results.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return folder


def answer(number: int) -> dict:
    """A right answer to one of two questions about a video, on four chunks."""
    video, question = f"{number // 2}.mp4", f"q-{number % 2}"
    return {
        "video": video,
        "question": question,
        "asked": f"{video} {question}",
        "kind": "q",
        "group": ("detail", "count")[number % 2],
        "text": f"Which number, n{number}?",
        "gold": str(number),
        "prediction": str(number),
        "right": True,
        "plan": [2, 32, 2, 0],
        "scores": [0.5, 0.25, 1.0, 0.0],
        "bounds_s": [0.0, 10.0, 20.0, 30.0, 39.0],
        "detailed_chunks": [0, 2],
        "gold_chunks": [2],
        "kv_tokens": 20,
        "kv_tokens_full": 100,
        "seconds": {"first_token": 0.5},
    }


def wrong(number: int) -> dict:
    """What is different about a wrong answer."""
    return {"prediction": f"not {number}", "right": False}

"""Data of a third party is registered like any method, evaluated on and trained on."""

import json

import pytest
import yaml
from models import save, tiny_backbone

import x2l
from x2l import registry
from x2l.cli import main
from x2l.data import make_training_data
from x2l.needles.dataset import read_dataset, write_dataset
from x2l.scoring import is_right
from x2l.types import X2LError

PLUGIN = '''
import json
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import x2l


@x2l.register("mlvu_like")
@dataclass
class MLVULike(x2l.Data):
    """MLVU's dev JSON: {video, question, candidates, answer, question_type}."""

    dir: str
    num: int | None = None

    reduced: ClassVar[dict[str, dict[str, int]]] = {"smoke": {"num": 1}, "quick": {"num": 6}}

    def items(self):
        asked = {}
        for file in sorted(Path(self.dir, "json").glob("*.json")):
            for n, r in enumerate(json.loads(file.read_text())):
                kind, path = r["question_type"], Path(self.dir, "video", r["video"])
                options, name = tuple(r["candidates"]), f"{kind}-{n}"
                question = x2l.Question(r["question"], name, options, r["answer"], group=kind)
                asked.setdefault(path, []).append(question)
        return [x2l.Item.of_file(*pair) for pair in asked.items()][: self.num]
'''
ROWS = {"only": {"selector": {"name": "random", "k": 1}}, "none": {"selector": "constant"}}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Two short videos with MLVU's files beside them, the plug-in, and recipes that name it."""
    monkeypatch.setattr(registry, "_registered", {slot: {} for slot in registry.SLOTS})
    asked = {"detail": 2, "exist": 1}
    write_dataset(tmp_path / "made", 2, 3, 4, size=96, seconds_per_scene=2, questions=asked)
    records = {}
    for path, questions in read_dataset(tmp_path / "made"):
        for q in questions:
            record = {"video": path.name, "question": q.text, "candidates": q.options, "answer": q.answer}
            records.setdefault(q.group, []).append(record | {"question_type": q.group})
    (tmp_path / "json").mkdir()
    for group, rows in records.items():
        (tmp_path / "json" / f"{group}.json").write_text(json.dumps(rows))
    (tmp_path / "made" / "videos").rename(tmp_path / "video")
    save(tiny_backbone(), tmp_path / "model")
    (tmp_path / "plugin.py").write_text(PLUGIN)
    return tmp_path


def evaluated(folder, data, *options):
    backbone = {"name": "video_xl", "model": str(folder / "model")}
    base = {"backbone": backbone, "ratios": [2, 8], "chunk_frames": 2}
    recipe = {"data": data, "base": base, "rows": ROWS, "show_options": True}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    code = main(["eval", str(folder / "recipe.yaml"), "--out", str(folder / "out"), "--quiet", *options])
    assert code == 0
    return json.loads((folder / "out" / "summary.json").read_text())


def test_data_of_a_plug_in_is_evaluated_by_both_scales(folder, capsys):
    data = {"name": "mlvu_like", "dir": str(folder)}
    summary = evaluated(folder, data, "--plugin", str(folder / "plugin.py"))
    assert summary["num_questions"] == {"detail": 4, "holistic": 2, "all": 6} and summary["num_videos"] == 2
    for row in summary["rows"].values():
        of_groups = [row["accuracy"][group]["mean"] for group in ("detail", "holistic")]
        assert row["macro_accuracy"]["mean"] == pytest.approx(sum(of_groups) / 2)
        low, high = row["macro_accuracy"]["interval"]
        assert low <= row["macro_accuracy"]["mean"] <= high
    assert main(["methods", "data", "--plugin", str(folder / "plugin.py")]) == 0
    assert "mlvu_like MLVU's dev JSON" in " ".join(capsys.readouterr().out.split())


def test_a_smaller_variant_is_that_of_the_plug_in(folder, capsys):
    data = {"name": "mlvu_like", "dir": str(folder)}
    summary = evaluated(folder, data, "--plugin", str(folder / "plugin.py"), "--smoke")
    assert summary["num_videos"] == 1


def test_what_is_evaluated_on_is_trained_on_too(folder):
    registry.load_plugin(folder / "plugin.py")
    part = {"name": "mlvu_like", "dir": str(folder)}
    data = make_training_data({"name": "mixture", "parts": [part, part]}, "data")
    assert len(data) == 4
    assert data.sample(3).open(x2l.video.Sampling()).num_frames == 8


def test_records_and_captions_of_a_training_are_evaluated_on(folder):
    captions = [{"start_s": 2 * i, "end_s": 2 * i + 2, "caption": f"scene {i}"} for i in range(4)]
    (folder / "captions.json").write_text(json.dumps({"0000.mp4": captions}))
    turns = [{"from": "human", "value": "Is it day?"}, {"from": "gpt", "value": "yes"}]
    record = {"id": "a", "video": "0001.mp4", "gt_frame_idx": [0, 1], "conversations": turns * 2}
    (folder / "records.json").write_text(json.dumps([record]))
    videos = str(folder / "video")
    parts = [
        {"name": "vico", "captions": str(folder / "captions.json"), "num": 2, "dir": videos},
        {"name": "llava", "file": str(folder / "records.json"), "dir": videos},
        {"name": "needles", "num": 1, "seed": 1, "chunks": [3, 3], "size": 96, "seconds_per_scene": 2},
    ]
    summary = evaluated(folder, {"name": "mixture", "parts": parts})
    assert summary["num_videos"] == 4
    lines = [json.loads(line) for line in (folder / "out" / "results.jsonl").read_text().splitlines()]
    assert all(line["gold_chunks"] == [0] for line in lines if line["video"] == "a")


def test_an_answer_with_its_letter_is_the_option():
    question = x2l.Question("?", options=("a dog", "a cat"), answer="(B) a cat")
    assert is_right("B", question) and is_right("a cat.", question) and is_right("(B) a cat", question)
    assert not is_right("A", question)


def test_a_question_without_a_right_answer_is_not_trained_on(folder):
    path = folder / "made" / "questions.json"
    (folder / "video").rename(folder / "made" / "videos")
    spec = {"name": "folder", "dir": str(folder / "made")}
    assert len(make_training_data(spec, "data")) == 2
    records = json.loads(path.read_text())
    path.write_text(json.dumps([*records[:-1], records[-1] | {"gt": None}]))
    with pytest.raises(X2LError, match=r"data\.dir: 0001\.mp4, question exist-0: expected a gt to learn"):
        make_training_data(spec, "data")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"name": "haystack", "num": 1, "seed": 1, "lengths": [30]}, "data.name: writes its videos"),
        ({"name": "needles", "num": 1, "seed": 1, "chunks": 4}, "data.chunks: expected fewest and most"),
    ],
)
def test_videos_of_an_evaluation_are_not_trained_on(spec, message):
    with pytest.raises(X2LError, match=message):
        make_training_data(spec, "data")
    with pytest.raises(X2LError, match=message.replace("data.", "data.parts.0.")):
        make_training_data({"name": "mixture", "parts": [spec]}, "data")

"""Benchmarks as their authors release them: invented records in the exact formats, over one real video."""

import json
import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from x2l.data import vnbench

TASKS = {
    "1_plotQA": ("plotQA", ["fox", "owl", "hen", "cat"], "owl"),
    "2_needle": ("findNeedle", ["red", "blue", "green", "pink"], "purple"),  # none of them, as in the release
    "3_ego": ("ego", ["saw", "hammer", "rake", "spade"], "rake"),
    "4_count": ("count", ["1", "2", "3", "4"], "4"),
    "5_order": ("order", ["1->2->3", "2->1->3", "3->1->2", "3->2->1"], "2->1->3"),
    "6_anomaly_reco": ("anomaly_reco", ["Fire", "Fight", "Fall", "Flood"], "Fire"),
    "7_topic_reasoning": ("topic_reasoning", ["sea", "city", "farm", "cave"], "sea"),
}
ORDERS = ((0, 1, 2, 3), (0, 3, 1, 2), (1, 3, 2, 0), (3, 2, 0, 1))
"""The four orders in which VNBench shows its options."""


def mlvu(folder: Path, video: Path) -> Path:
    for stem, (task, candidates, answer) in TASKS.items():
        name = f"{task}_9001.mp4"
        record = {"video": name, "duration": 8, "question": "Which one?", "candidates": candidates}
        write(folder / "MLVU/json" / f"{stem}.json", [record | {"answer": answer, "question_type": task}])
        copy(video, folder / "MLVU/video" / stem / name)
    told = {
        "video": "s.mp4",
        "duration": 8.5,
        "question": "What happens?",
        "answer": "All.",
        "scoring_points": [],
    }
    write(folder / "MLVU/json/8_sub_scene.json", [told | {"question_type": "subPlot"}])
    test = {"video": "test_ego_901.mp4", "question": "What colour was the bucket I carried?"}
    test |= {"candidates": ["red", "blue", "green", "white", "black", "grey"], "question_type": "ego"}
    write(folder / "test_question.json", [test | {"question_id": "ER_901"}])
    copy(video, folder / "video/test_ego_901.mp4")
    return folder


def videomme(folder: Path, video: Path) -> Path:
    record = {"domain": "Life Record", "sub_category": "Handicraft", "url": "https://example.invalid/watch"}
    record |= {
        "question": "How many paper cranes are folded?",
        "options": ["A. Two.", "B. Three.", "C. Five."],
    }
    rows = []
    for number, duration in enumerate(("short", "medium", "long")):
        name = {"video_id": f"90{number}", "videoID": f"xXinvented0{number}", "duration": duration}
        for task in ("Counting Problem", "OCR Problems"):
            own = {"question_id": f"90{number}-{task[0]}", "task_type": task, "answer": "B"}
            rows.append(record | name | own)
        copy(video, folder / "data" / f"xXinvented0{number}.mp4")
    write_lines(folder / "videomme/test-00000-of-00001.jsonl", rows)
    (folder / "subtitle").mkdir()
    (folder / "subtitle/xXinvented00.srt").write_text(
        '1\n00:00:04,500 --> 00:00:06,200\n<font color="white" size=".72c">now press {the} edge</font>\n\n'
        '2\n00:00:01,500 --> 00:00:03,500\n<font color="white" size=".72c">fold it once</font>\n\n'
        "3\n00:00:02,000 --> 00:00:03,000\nnot in the tag\n\n"
        '4\n00:00:07,400 --> 00:00:07,600\n<font color="white" size=".72c">between two frames</font>\n'
    )
    return folder


def longvideobench(folder: Path, video: Path) -> Path:
    record = {"video_path": "inv_0001.mp4", "subtitle_path": "inv_0001_en.json", "duration": 8.0}
    record |= {
        "topic_category": "CC-Cooking",
        "starting_timestamp_for_subtitles": 0.0,
        "video_id": "inv_0001",
    }
    table = {"option0": "milk", "option1": "tea", "option2": "sugar", "option3": "N/A", "option4": "N/A"}
    rows = [
        record | own | {"id": f"inv_0001_{n}", "question": "What is poured first?", "duration_group": group}
        for n, (group, own) in enumerate(
            (
                (15, table | {"correct_choice": 1, "question_category": "E3E"}),
                (600, {"candidates": ["milk", "tea"], "correct_choice": 0, "question_category": "S2A"}),
            )
        )
    ]
    write(folder / "lvb_val.json", rows)
    write(folder / "lvb_test_wo_gt.json", rows)
    copy(video, folder / "videos/inv_0001.mp4")
    return folder


def lvbench(folder: Path, video: Path) -> Path:
    asked = "What does the guide point at first?\n(A) A bridge\n(B) A tower\n(C) A boat\n(D) A tree"
    both = ["entity recognition", "key information retrieval"]
    qa = [
        {
            "uid": "9001",
            "question": asked,
            "answer": "B",
            "question_type": both,
            "time_reference": "00:02-00:04",
        },
        {"uid": "9002", "question": asked, "answer": "D", "question_type": both[:1], "time_reference": "N/A"},
    ]
    info = {"duration_minutes": 41.5, "fps": 30.0, "resolution": {"width": 1280, "height": 720}}
    line = {"key": "xXinvented02", "type": "documentary", "video_info": info, "qa": qa}
    write_lines(folder / "video_info.meta.jsonl", [line])
    copy(video, folder / "videos/xXinvented02.mp4")
    return folder


def vnbench_records(num: int = 1) -> list[dict]:
    """`num` videos of each type, four tries each."""
    shown = {
        "ret": ["Ida", "Otto", "Lena", "Hugo"],
        "ord": ["a, b", "b, a", "a, c", "c, a"],
        "cnt": [1, 2, 3, 4],
    }
    rows = []
    for kind in vnbench.TYPES:
        # The release calls the records of two types after each other.
        told = {"ret_insert1": "ret_insert2", "ret_insert2": "ret_insert1"}.get(kind, kind)
        options = shown[kind[:3]]
        for number in range(num):
            record = {"video": f"./VNBench/inv{number}_{kind}.mp4", "question": "What is it?", "type": told}
            for number_of_try, order in enumerate(ORDERS):
                now = [options[i] for i in order]
                rows.append(record | {"options": now, "gt": options[2], "try": number_of_try})
    return rows


def vnbench_release(folder: Path, video: Path) -> Path:
    rows = vnbench_records()
    write(folder / "VNBench-main-4try.json", rows)
    for name in {row["video"] for row in rows}:
        copy(video, folder / name)
    return folder


def v_niah(folder: Path, video: Path) -> Path:
    copy(video, folder / "haystack.mp4")
    (folder / "needle_datasets/needles").mkdir(parents=True)
    red = np.zeros((30, 20, 3), np.uint8) + np.array([255, 0, 0], np.uint8)
    Image.fromarray(red).save(folder / "needle_datasets/needles/invented_kite.png")
    asked = "What animal is printed on the kite?\nA. Owl\nB. Fox\nC. Whale\nD. Crane\n"
    needle = {"path": "needles/invented_kite.png", "answer": "C"}
    needle |= {"prompt": asked + "Answer with the option's letter"}
    write(folder / "needle_datasets/dataset.json", [needle])
    return folder


RELEASES = {
    "mlvu": mlvu,
    "videomme": videomme,
    "longvideobench": longvideobench,
    "lvbench": lvbench,
    "vnbench": vnbench_release,
    "v_niah": v_niah,
}


def write(path: Path, content) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def write_lines(path: Path, rows: list[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def copy(video: Path, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(video, path)

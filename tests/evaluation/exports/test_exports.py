"""Exports hold what the table holds, letter by letter."""

import hashlib
import json

import pytest
from made_runs import made_run, wrong

from x2l.cli import main
from x2l.evaluation.exports import FORMATS
from x2l.evaluation.exports.latex import escaped
from x2l.evaluation.table import markdown

ROWS = {
    "2x": [{}] * 8,
    "50 % & #1_a": [wrong(i) | {"kv_tokens": 5} if i % 2 else {"kv_tokens": 5} for i in range(8)],
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Of the second row, every detail is right and no count: no interval has a width, but that of all."""
    return made_run(tmp_path_factory.mktemp("exports") / "run", ROWS)


def exported(capsys, *arguments):
    assert main(["export", *map(str, arguments)]) == 0
    return capsys.readouterr().out


def test_csv_has_numbers_as_they_are(run, capsys):
    assert exported(capsys, run, "--format", "csv").splitlines() == [
        "row,detail,detail low,detail high,count,count low,count high,all,all low,all high,"
        "cache gone,TTFT,speed-up,recall",
        "2x,1,1,1,1,1,1,1,1,1,80,1,1,1",
        "50 % & #1_a,1,1,1,0,0,0,0.5,0.5,0.5,95,1,1,1",
    ]
    without = exported(capsys, run, "--format", "csv", "--no-intervals").splitlines()
    assert without[0] == "row,detail,count,all,cache gone,TTFT,speed-up,recall"
    assert without[2] == "50 % & #1_a,1,0,0.5,95,1,1,1"


def test_latex_is_escaped_and_the_best_is_bold_unless_all_are(run, capsys):
    assert exported(capsys, run, "--format", "latex", "--no-intervals").splitlines() == [
        r"\begin{tabular}{lrrrrrrr}",
        r"\toprule",
        r" & detail (4) & count (4) & all (8) & cache gone & TTFT & speed-up & recall \\",
        r"\midrule",
        r"2x & 1.00 & \textbf{1.00} & \textbf{1.00} & 80.0 \% & 1.00x & 1.0x & 1.00 \\",
        r"50 \% \& \#1\_a & 1.00 & 0.00 & 0.50 & \textbf{95.0 \%} & 1.00x & 1.0x & 1.00 \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]
    assert escaped("[a] *") == "{[}a] {*}"
    assert r"\textbf{1.00} {\scriptsize [1.00, 1.00]} & " in exported(capsys, run, "--format", "latex")


def test_markdown_is_the_main_table(run, capsys):
    assert markdown(["row"], [["a|b"]])[2] == r"| a\|b |"
    assert exported(capsys, run, "--format", "markdown").splitlines() == [
        "| row | detail (4) | count (4) | all (8) | cache gone | TTFT | speed-up | recall |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
        "| 2x | 1.00 [1.00, 1.00] | 1.00 [1.00, 1.00] | 1.00 [1.00, 1.00] | 80.0 % | 1.00x | 1.0x | 1.00 |",
        "| 50 % & #1_a | 1.00 [1.00, 1.00] | 0.00 [0.00, 0.00] | 0.50 [0.50, 0.50] | 95.0 % | 1.00x | 1.0x "
        "| 1.00 |",
        "| chance | 0.25 | 0.25 | 0.12 |  |  |  |  |",
    ]


def test_lmms_has_a_sample_for_every_answer(run, tmp_path, capsys):
    assert exported(capsys, run, "--format", "lmms", "-o", tmp_path / "samples.jsonl") == ""
    samples = [json.loads(line) for line in (tmp_path / "samples.jsonl").read_text().splitlines()]
    assert [(sample["row"], sample["doc_id"]) for sample in samples] == [
        (row, number) for number in range(8) for row in ROWS
    ]
    doc = {
        "video": "1.mp4",
        "question": "q-1",
        "kind": "q",
        "group": "count",
        "text": "Which number, n3?",
        "gold": "3",
    }
    assert samples[7] == {
        "row": "50 % & #1_a",
        "doc_id": 3,
        "doc": doc,
        "input": "Which number, n3?",
        "target": "3",
        "resps": ["not 3"],
        "filtered_resps": "not 3",
        "doc_hash": hashlib.sha256(json.dumps(doc, indent=2).encode()).hexdigest(),
        "acc": 0.0,
    }


def test_what_cannot_be_exported_is_one_line(run, tmp_path, capsys):
    unscored = made_run(tmp_path / "unscored", {"a": [{"gold": None, "right": None}]})
    for arguments, message in (
        (
            [run, "--format", "latx"],
            "--format 'latx': unknown, expected one of csv, latex, lmms, markdown; did",
        ),
        ([unscored, "--format", "csv"], "unscored: no question has a right answer, expected one"),
        ([tmp_path, "--format", "csv"], "run.json: cannot be read"),
        ([run, "--format", "csv", "-o", tmp_path / "no" / "table.csv"], "table.csv: cannot be written"),
    ):
        assert main(["export", *map(str, arguments)]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert message in line
    (sample,) = exported(capsys, unscored, "--format", "lmms").splitlines()
    assert json.loads(sample)["target"] == "" and "acc" not in json.loads(sample)


def test_help_names_every_format(capsys):
    assert main(["export", "--help"]) == 0
    told = capsys.readouterr().out
    assert all(name in told for name in FORMATS)

"""Files of questions have one format; what is wrong with one is said, and nothing is scored in silence."""

import codecs
import json

import pytest

from x2l.data.llava import Llava
from x2l.questions import read_questions
from x2l.types import X2LError

RECORD = {"question": "Which colour?", "options": ["red", "green"], "gt": "B"}


def read(tmp_path, *records, encoding="utf-8"):
    path = tmp_path / "questions.json"
    path.write_text(json.dumps(records, ensure_ascii=False), encoding=encoding)
    return read_questions(path)


@pytest.mark.parametrize("gt", ["B", "green", "(B) green", "b.", "Green."])
def test_a_right_answer_is_the_option_however_it_is_spelt(tmp_path, gt):
    lettered = RECORD | {"options": ["A. red", "B. green"]}
    for record in (RECORD, lettered):
        [(_, question)] = read(tmp_path, record | {"gt": gt})
        assert (question.options, question.answer) == (("red", "green"), "green")


def test_numbers_are_their_digits(tmp_path):
    [(_, question)] = read(tmp_path, RECORD | {"options": [1, 2.0, 2.5], "gt": 2})
    assert (question.options, question.answer) == (("1", "2", "2.5"), "2")
    [(_, question)] = read(tmp_path, {"question": "How many?", "gt": 3.0, "id": 7})
    assert (question.answer, question.id) == ("3", "7")


def test_old_spellings_are_read(tmp_path):
    mlvu = {"video": "a.mp4", "duration": 5, "question": "Which?", "candidates": ["saw", "rake"]}
    [(video, question)] = read(tmp_path, mlvu | {"answer": "rake", "question_type": "ego"})
    assert (video, question.options, question.answer) == ("a.mp4", ("saw", "rake"), "rake")
    assert (question.id, question.group) == ("ego-0", "ego")


def test_an_answer_that_is_not_known_is_none(tmp_path):
    asked = read(tmp_path, RECORD | {"gt": None}, {"question": "?", "answer": None}, "Which?")
    assert [question.answer for _, question in asked] == [None] * 3


def test_questions_without_an_id_are_told_apart(tmp_path):
    typed = {"question": "?", "type": "ego", "video": "a.mp4"}
    asked = read(tmp_path, typed, "?", typed, typed | {"video": "b.mp4"}, typed | {"try": 3})
    assert [question.id for _, question in asked] == ["ego-0", "2", "ego-1", "ego-0", "ego-3"]


def test_tries_at_a_question_share_what_they_are_tries_at(tmp_path):
    tries = [RECORD | {"video": "a.mp4", "type": "cnt", "try": i} for i in range(4)]
    other, alone = tries[0] | {"question": "How many?", "id": "cnt-9"}, RECORD | {"type": "ret", "try": 0}
    tries_at = [question.tries_at for _, question in read(tmp_path, *tries, other, alone, RECORD)]
    assert tries_at == [*["cnt: Which colour?"] * 4, "cnt: How many?", "", ""]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_files_of_a_windows_editor_are_read(tmp_path, encoding):
    assert read(tmp_path, RECORD | {"question": "Größe?"}, encoding=encoding)[0][1].text == "Größe?"


def test_lines_of_a_windows_editor_are_read(tmp_path):
    turns = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "That."}]
    line = json.dumps({"id": "a", "image": "a.png", "conversations": turns}).encode()
    (tmp_path / "records.jsonl").write_bytes(codecs.BOM_UTF8 + line)
    assert Llava(str(tmp_path / "records.jsonl")).ids() == ["a"]


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (
            RECORD | {"gt": "C"},
            "record 1: question 2: the answer 'C' is none of its options, expected A, B or",
        ),
        (RECORD | {"gt": 1}, "record 1: question 2: the answer '1' is none of its options"),
        (RECORD | {"gt": "None"}, "the answer 'None' is none of its options"),
        (RECORD | {"gt": " "}, "record 1.gt: expected text or a number, got ' '"),
        (RECORD | {"gt": float("nan")}, "record 1.gt: expected text or a number, got nan"),
        (RECORD | {"gt": ["B"]}, "record 1.gt: expected str or int or float or None"),
        (RECORD | {"gt": True}, "record 1.gt: expected str or int or float or None"),
        (RECORD | {"options": ["red", ""]}, "record 1.options: expected text or a number, got ''"),
        ({"question": "?", "opitons": ["red"]}, "record 1.opitons: unknown, expected one of"),
        ({"question": "?", "Answer": "red"}, "record 1.Answer: unknown, expected one of"),
    ],
)
def test_what_would_be_scored_wrongly_is_refused(tmp_path, record, message):
    with pytest.raises(X2LError) as error:
        read(tmp_path, "A text?", record)
    assert message in str(error.value) and "questions.json" in str(error.value)

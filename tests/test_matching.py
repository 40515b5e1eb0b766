"""An answer names an option where that is unambiguous; what differs by symbols is different."""

import pytest

from x2l.evaluation.scoring import is_right
from x2l.matching import chosen, listed, says, spelt
from x2l.types import Question, X2LError

COLOURS = ("red", "green")
GREEN = """
B|b.|(B)|B)|(B|[B]|**B**|B. green|(B) green|(B) B. green|B - green|B because ...|Option B|option (b)
green|Green is what I see|The answer is green.|It is green (B).|It is B.|I think B|I choose B|B is correct
The correct answer is (B).|The answer is B|Answer: B. green|Best Option: (B) green|<answer>B</answer>
Based on the video, the best option is B.|The right choice is clearly B|Option B is the correct answer.
A is red. So the answer is B|(A) is wrong. The answer is (B).|The answer is B, not A.|\\boxed{B}|So it is B!
"""
NEITHER = """
Based on the video|Based on ...|Both|Bgreen|AB|A/B|E|I think E|An apple|A man walks|A dog in green
A or B|(A) (B)|A, B|Both A and B|The answer is A or B|Answer: (A) or (B)|A. red B. green|(B) red|A green
not B|The answer is not B|The answer isn't (B).|It is not (B).|(B) is not right|B is wrong|(B) isn't it
vitamin B|The answer is blue|It is green
"""


def each(text: str) -> list[str]:
    return text.strip().replace("\n", "|").split("|")


@pytest.mark.parametrize("said", [*each(GREEN), "B\n\nBecause it is green."])
def test_one_option_is_named(said):
    assert chosen(said, COLOURS) == chosen(said, ("A. red", "B. green")) == 1


@pytest.mark.parametrize("said", [*each(NEITHER), ""])
def test_no_option_is_named(said):
    """By none, by several, or by two that contradict each other."""
    assert chosen(said, COLOURS) is None


@pytest.mark.parametrize(
    "options",
    [
        ("C", "C++", "C#"),
        ("+", "-", "*", "/", "="),
        ("A", "A-", "A+"),
        ("5", "5%", "$5", "5°", "-5", "1/5"),
        ("<", ">", "!=", "->"),
        ("?", "!", "..."),
        ("🙂", "🙁"),
        ("x2", "x²", "-x", "x"),
        ("cafe", "caf\u00e9"),
        ("red", "red car", "red cars"),
        ("2->1->3", "1->2->3"),
    ],
)
def test_options_that_differ_by_little_are_different(options):
    for i, option in enumerate(options):
        letter = "ABCDEF"[i]
        ways = [option, f" {option}\n", f"({letter}) {option}", f"The answer is ({letter})."]
        assert [chosen(said, options) for said in ways] == [i] * len(ways), option
        assert [spelt(gold, options) for gold in (option, f"({letter}) {option}")] == [i, i], option
        assert [says(option, other) for other in options if says(other, option)].count(True) == 1, option


def test_an_option_said_at_length_is_the_longest():
    assert chosen("C++ is on the screen", ("C", "C++")) == 1
    assert chosen("C is on the screen", ("C", "C++")) == chosen("A", ("C", "C++")) == 0
    assert chosen("red car, I think", ("red", "red car")) == 1
    assert chosen("(A) red car", ("red", "red car")) is None
    assert chosen("us", ("US", "us")) == 1


@pytest.mark.parametrize(
    ("gold", "options", "number"),
    [
        ("B", COLOURS, 1),
        ("(b)", COLOURS, 1),
        ("Green.", COLOURS, 1),
        ("(B) green", COLOURS, 1),
        ("B. green", ("A. red", "B. green"), 1),
        ("green", ("A. red", "B. green"), 1),
        ("A", ("A. B", "B. A"), 0),
        ("A", ("B", "A"), 1),
        ("(B) red", COLOURS, None),
        ("C", COLOURS, None),
        ("None", COLOURS, None),
    ],
)
def test_a_right_answer_is_a_letter_a_text_or_both(gold, options, number):
    assert spelt(gold, options) == number


def test_an_answer_without_end_is_judged_in_no_time():
    for said in ("B, " * 1000, "A B " * 1000, "answer " * 1000, "(" * 1000, ": " * 1000):
        assert chosen(said, COLOURS) in (1, None)


def test_options_in_the_text_are_options_too():
    """As LLaVA's, LVBench's and lmms-eval's MLVU records have them."""
    text = "Which tool did I hang on the wall?\n(A) saw\n(B) hammer\n(C) rake"
    assert listed(text) == listed(f"{text}\nOne letter only.") == ["saw", "hammer", "rake"]
    assert listed("Who? (A) I (B) You") == ["I", "You"] and listed("Is it\n(A) day?") == listed("Why?") == []
    for gold in ("C", "rake", "(C) rake"):
        question = Question(text, answer=gold)
        said = ["C", "(C) rake", "rake", "The answer is (C).", "B", "hammer", "A rake"]
        assert [is_right(each, question) for each in said] == [True] * 4 + [False] * 3


def test_an_answer_that_is_no_option_is_refused():
    question = Question("?", id="q", options=COLOURS, answer="None")
    with pytest.raises(
        X2LError, match=r"question q: the answer 'None' is none of its options, expected A, B or"
    ):
        is_right("B", question)
    with pytest.raises(X2LError, match="question q: has no right answer"):
        is_right("B", Question("?", id="q", answer=" "))

"""Times that a question names, in generated phrases and by hand."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from models import bare_index

from x2l.needles.questions import TEMPLATES
from x2l.needles.videos import NeedleVideos
from x2l.oracles._time_phrases import Video, named_spans
from x2l.oracles.timestamp import Timestamp
from x2l.types import Question, X2LError

END_S = 7200.0
VIDEO = Video(END_S, lambda number: (number / 2, number / 2 + 0.5) if number < 14400 else None)

# Phrases


ONES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven"]
ONES += ["twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"]
TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]


def words(number, between="-"):
    """Of 0 to 99."""
    if number < 20:
        return ONES[number]
    ten, one = divmod(number, 10)
    return TENS[ten - 2] + (between + ONES[one] if one else "")


def plural(number, unit):
    return f"{number} {unit}{'s' * (number != 1)}"


def clock(time_s):
    minutes, seconds = divmod(time_s, 60)
    hours, rest = divmod(minutes, 60)
    forms = [
        f"{minutes}:{seconds:02}",
        f"{hours}:{rest:02}:{seconds:02}",
        f"{hours:02}:{rest:02}:{seconds:02}",
    ]
    return [*forms, f"{minutes:02}:{seconds:02}", f"{minutes}:{seconds:02}.0"]


def spelled(time_s):
    """A duration in many forms."""
    minutes, seconds = divmod(time_s, 60)
    forms = [plural(time_s, "second"), f"{time_s}s", f"{time_s} s", f"{time_s} sec", f"{time_s}-second"]
    if time_s < 100:
        forms += [f"{words(time_s)} seconds", f"{words(time_s, ' ')} seconds"]
    if minutes and seconds:
        forms += [f"{plural(minutes, 'minute')} and {plural(seconds, 'second')}", f"{minutes}m{seconds}s"]
        forms += [f"{minutes} min {seconds} s", f"{plural(minutes, 'minute')}, {plural(seconds, 'second')}"]
    if minutes and not seconds:
        forms += [plural(minutes, "minute"), f"{minutes} min", f"{minutes}m"]
        forms += [f"{words(minutes)} minutes"] if minutes < 100 else []
    if minutes and seconds == 30:
        forms += [f"{minutes} and a half minutes", f"{minutes}.5 minutes"]
    return forms


OPENINGS = ("", "What number is on the red star ", "Look closely: who waves ", "Which of the 3 dogs barks ")
CLOSINGS = ("", "?", ", and why?", " in the video?", " of the video?")
TIMES = st.integers(0, 5999)
DURATIONS = st.integers(1, 5999)


def moments():
    @st.composite
    def made(draw):
        time_s = draw(TIMES)
        by_clock = [f"{form}{t}" for t in clock(time_s) for form in ("at ", "shown at ", "around ", "[", "@")]
        by_name = [
            form.format(t)
            for t in spelled(time_s)
            for form in ("at {}", "at about {}", "at the {} mark", "{} into the video", "{} after the start")
        ]
        return draw(st.sampled_from(by_clock + by_name)), (time_s, time_s + 1)

    return made()


def pairs():
    @st.composite
    def made(draw):
        start_s, end_s = sorted(draw(st.lists(TIMES, min_size=2, max_size=2, unique=True)))
        forms = ["between {} and {}", "from {} to {}", "from {} until {}", "{} to {}", "{} - {}"]
        texts = [f.format(a, b) for f in forms for a, b in zip(clock(start_s), clock(end_s), strict=True)]
        a, b = draw(st.sampled_from(spelled(start_s))), draw(st.sampled_from(spelled(end_s)))
        return draw(st.sampled_from([*texts, f"between {a} and {b}", f"from {a} to {b}"])), (start_s, end_s)

    return made()


def open_ended(forms, span):
    @st.composite
    def made(draw):
        time_s = draw(DURATIONS)
        time = draw(st.sampled_from(spelled(time_s) + (clock(time_s) if "first" not in forms[0] else [])))
        return draw(st.sampled_from(forms)).format(time), span(time_s)

    return made


def parts():
    @st.composite
    def made(draw):
        name, num = draw(st.sampled_from([("half", 2), ("third", 3), ("quarter", 4), ("fifth", 5)]))
        place = draw(st.integers(0, num - 1))
        ordinals = ["first", "second", "third", "fourth", "fifth"][place : place + 1]
        ordinals += ["last", "final"] if place == num - 1 else []
        text = f"in the {draw(st.sampled_from(ordinals))} {name}"
        return text, (place * END_S / num, (place + 1) * END_S / num)

    return made()


def frames():
    @st.composite
    def made(draw):
        first, last = sorted(draw(st.lists(st.integers(0, 14399), min_size=2, max_size=2, unique=True)))
        one = draw(st.sampled_from(["in frame {}", "at frame number {}", "frame #{}"])).format(first)
        two = draw(st.sampled_from(["frames {} to {}", "frames {}-{}", "between frame {} and frame {}"]))
        span_of_one, span_of_two = (first / 2, first / 2 + 0.5), (first / 2, last / 2 + 0.5)
        return draw(st.sampled_from([(one, span_of_one), (two.format(first, last), span_of_two)]))

    return made()


PHRASES = {
    "moments": moments,
    "pairs": pairs,
    "parts": parts,
    "frames": frames,
    "after": open_ended(["after {}", "after about {}", "since {}"], lambda t: (t, END_S)),
    "before": open_ended(["before {}", "until {}", "up to {}"], lambda t: (0, t)),
    "first": open_ended(["in the first {}", "during the first {}"], lambda t: (0, t)),
    "last": open_ended(["in the last {}", "in the final {}"], lambda t: (END_S - t, END_S)),
    "right after": open_ended(["right after {}", "shortly after {}"], lambda t: (t, t + 10)),
    "right before": open_ended(["just before {}"], lambda t: (max(0, t - 10), t)),
    "from the end": open_ended(["{} before the end"], lambda t: (END_S - t, END_S - t + 1)),
}


@pytest.mark.parametrize("kind", sorted(PHRASES))
def test_a_time_written_in_any_form_is_read_back(kind):
    @given(phrase=PHRASES[kind](), opening=st.sampled_from(OPENINGS), closing=st.sampled_from(CLOSINGS))
    def reads(phrase, opening, closing):
        text, (start_s, end_s) = phrase
        assert named_spans(opening + text + closing, VIDEO) == [pytest.approx((start_s, end_s))], (
            opening + text
        )

    reads()


@pytest.mark.parametrize("seed", range(5))
def test_of_the_needle_questions_those_with_a_time_name_one(seed):
    for question in NeedleVideos(seed, 12).questions(0, dict.fromkeys(TEMPLATES, 20)):
        spans = named_spans(question.text, VIDEO)
        if question.group != "time":
            assert not spans, question.text
            continue
        ((start_s, end_s),) = spans
        ((first_s, last_s),) = question.gold_spans_s
        assert first_s <= start_s < end_s <= last_s, question


@pytest.mark.parametrize(
    ("text", "spans"),
    [
        ("What happens at the beginning?", [(0, 720)]),
        ("Who is there at the very end of the video?", [(6480, 7200)]),
        ("in the middle of the film", [(3240, 3960)]),
        ("halfway through", [(3240, 3960)]),
        ("In the last minute, who waves?", [(7140, 7200)]),
        ("in the second minute of the clip", [(60, 120)]),
        ("In the 3rd hour?", []),  # there are two
        ("minute 3", [(180, 240)]),
        ("at second 83", [(83, 84)]),
        ("the 21st frame", [(10, 10.5)]),
        ("in the middle third", [(2400, 4800)]),
        ("after an hour", [(3600, 7200)]),
        ("half a minute before the end", [(7170, 7171)]),
        ("at 1:23 and again between 2:00 and 2:10", [(83, 84), (120, 130)]),
        ("00:01:23,500 --> 00:01:25,000", [(83.5, 84.5), (85, 86)]),
        ("at 2:00:01", []),  # after the end
        ("frame 14400", []),
        ("Which team leads in the second half of the match?", []),
        ("Who wins at the end of the race?", []),
        ("after 3 minutes of cooking", []),
        ("How long is it 10 seconds or 30 seconds?", []),
        ("Does she run 100 m in the second scene?", []),
        ("The score is 2:1, in 16:9.", []),
        ("Does the clock show 10:30 am or 10:45 p.m.?", []),
        ("Who is the second person?", []),
        ("", []),
    ],
)
def test_what_a_phrase_names(text, spans):
    assert named_spans(text, VIDEO) == [pytest.approx(span) for span in spans]


# Scores


@pytest.fixture
def score(backbone):
    """Of chunks of two frames, at (0, 1), (2, 3), ... s."""
    return lambda text, **fields: Timestamp(**fields).score(Question(text), bare_index(5), backbone)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("at 0:05", [0, 0, 0.5, 0, 0]),
        ("between 0:01 and 0:05", [0.5, 1, 0.5, 0, 0]),
        ("between 0:01 and 0:05, and at 0:04 or at 0:08", [0.5, 1, 0.5, 0, 0.5]),
        ("in the last 3 seconds", [0, 0, 0, 0.5, 1]),
        ("in the second half", [0, 0, 0.5, 1, 1]),
        ("in frame 3", [0, 0.5, 0, 0, 0]),
    ],
)
def test_a_chunk_scores_the_share_of_it_that_lies_in_the_time(score, text, expected):
    torch.testing.assert_close(score(text), torch.tensor(expected, dtype=torch.float32))


def test_frames_are_counted_as_asked(score):
    """At ten per second frame 30 is shown at 3 s; of the ten that were sampled it is none."""
    assert score("in frame 30") is None
    torch.testing.assert_close(score("in frame 30", fps=10.0), torch.tensor([0, 0.05, 0, 0, 0]))
    with pytest.raises(X2LError, match=r"^oracle.fps: expected more than 0, got 0.0$"):
        Timestamp(fps=0.0)


@pytest.mark.parametrize("text", ["Which colour is the star?", "at 0:10", "for 3 seconds"])
def test_it_abstains_where_no_time_of_the_video_is_named(score, text):
    assert score(text) is None

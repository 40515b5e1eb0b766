"""A visitor without a page: what is read again and what is not, what is kept, what is refused."""

import threading
import time
import warnings
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from dataclasses import replace
from functools import partial
from itertools import islice, pairwise
from pathlib import Path

import pytest
from models import small_video

from x2l.errors import X2LError
from x2l.pipeline import Pipeline
from x2l.recipe import RECOMMENDED, Recipe, build_pipeline
from x2l.types import Question, Span
from x2l.video import open_video
from x2l.web import panels
from x2l.web.offered import sample
from x2l.web.recent import Recent
from x2l.web.session import Session
from x2l.web.settings import Settings, choices, takes_k, uncompressed
from x2l.web.shown import best, middles, show
from x2l.web.studio import MOST_SESSIONS, Studio
from x2l.web.uploads import uploads
from x2l.web.worker import Worker

ROOT = Path(__file__).parents[2]
TEXT = "How many bells appear in the video?"
BASE = Recipe.from_mapping(
    {
        **{"compressor": "mean_pool", "oracle": "attention", "selector": {"name": "top_k", "k": 1}},
        **{"ratios": [2, 8], "chunk_frames": 2, "sampling": {"fps": 1.0}},
    }
)
SETTINGS = Settings.of(BASE)
SHORT = {"max_new_tokens": 3}


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> Path:
    return small_video(tmp_path_factory.mktemp("web"))


@pytest.fixture
def session(backbone, path) -> Session:
    opens = partial(open_video, sampling=BASE.sampling)
    session = Session(partial(build_pipeline, backbone=backbone), opens, SHORT)
    session.open(path)
    return session


@pytest.fixture
def studio(backbone):
    with uploads() as folder:
        yield Studio(BASE, backbone, partial(open_video, sampling=BASE.sampling), folder, SHORT)


def asked(session, text, recipe):
    """Answer, and how many chunks were pre-filled for it."""
    read = []
    _, answer = session.ask(session.question(text), recipe, on_chunk=read.append)
    return answer, len(read)


def test_only_what_an_index_is_made_with_is_read_again(session, backbone, path):
    pipeline = build_pipeline(BASE, backbone)
    answer, num_read = asked(session, TEXT, BASE)
    expected = pipeline.ask(pipeline.index(open_video(path, BASE.sampling)), TEXT, **SHORT)
    assert num_read == len(answer.plan.ratios) == 4
    assert (answer.text, answer.plan) == (expected.text, expected.plan)
    for change in (
        ["selector.k=2", "proportional.beta=1"],
        ["oracle={name: attention, similarity: cosine}"],
        ["oracle=timestamp", "selector=constant"],
    ):
        recipe = BASE.apply(change)
        answer, num_read = asked(session, TEXT, recipe)
        pipeline = build_pipeline(recipe, backbone)
        expected = pipeline.ask(pipeline.index(open_video(path, BASE.sampling)), TEXT, **SHORT)
        assert num_read == 0, change
        assert (answer.text, answer.plan) == (expected.text, expected.plan), change
    assert asked(session, TEXT, BASE.apply(["ratios=[4, 8]"]))[1] == 4
    whole, num_read = asked(session, TEXT, uncompressed(BASE))
    assert num_read == 4 and whole.cache_reduction == 0 and whole.kv_tokens == answer.kv_tokens_full
    assert session.first_token_s(Question(TEXT), BASE) > 0


def test_another_video_forgets_the_one_before_and_a_bad_one_does_not(session, path, tmp_path):
    asked(session, TEXT, BASE)
    session.turns = ((TEXT, "2"),)
    with pytest.raises(X2LError, match=r"none\.mp4"):
        session.open(tmp_path / "none.mp4")
    assert session.path == path and asked(session, TEXT, BASE)[1] == 0
    assert session.question("Why?", follows=True).history == session.turns
    assert session.question("Why?").history == ()
    session.open(path)
    assert session.turns == () and asked(session, TEXT, BASE)[1] == 4


def test_the_choices_of_a_recipe_leave_it_as_it_is_and_others_change_it():
    for base in (BASE, Recipe.from_mapping(RECOMMENDED)):
        assert Settings.of(base).recipe(base) == base.check()
    changed = replace(
        SETTINGS, oracle="timestamp", selector="{name: threshold, above: 2}", ratios="4,16", beta=1
    )
    recipe = changed.recipe(BASE)
    assert recipe.oracle == {"name": "timestamp"} and recipe.selector == {"name": "threshold", "above": 2}
    assert recipe.ratios == (4, 16) and recipe.proportional.beta == 1
    assert replace(SETTINGS, k=7).recipe(BASE).selector == {"name": "top_k", "k": 7}
    assert [*map(takes_k, ("top_k", "{name: top_k, k: 9}", "{name: diverse}", "constant", "?"))] == [
        *(True, False, True, False, False)
    ]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"ratios": "2, x"}, "ratios"),
        ({"ratios": ""}, "ratios: expected"),
        ({"oracle": "attentoin"}, "did you mean 'attention'"),
        ({"oracle": " "}, "oracle"),
        ({"selector": "{name: top_k, above: 2}"}, "selector.above"),
        ({"k": -1}, "selector.k: -1"),
        ({"k": None}, "selector.k: expected int"),
        ({"beta": -1}, "proportional.beta"),
    ],
)
def test_a_wrong_choice_is_named(wrong, said, backbone):
    with pytest.raises(X2LError, match=said):
        build_pipeline(replace(SETTINGS, **wrong).recipe(BASE), backbone)


def test_the_methods_to_choose_from_are_those_that_need_no_field(backbone):
    assert {"attention", "sentences", "timestamp"} <= {*choices("oracle", backbone)}
    assert not {"precomputed", "callable"} & {*choices("oracle", backbone)}
    assert {"top_k", "constant", "knapsack"} <= {*choices("selector", backbone)}
    assert "llm_attention" in choices("oracle", backbone)
    backbone = copy(backbone)
    backbone.provides = backbone.provides - {"attention"}
    assert "llm_attention" not in choices("oracle", backbone)


def test_events_show_the_reading_the_writing_and_the_answer(studio, path):
    views = list(studio.open("me", path, SETTINGS))
    bars = [view.state.count("<i ") for view in views if view.state and "progressbar" in view.state]
    assert bars == [0, 1, 2, 3, 4]
    assert path.name in views[1].player and "Read once" in views[-1].state
    both = [SETTINGS, replace(SETTINGS, selector="constant")]
    views = list(studio.ask("me", TEXT, both, times=True))
    written = [view.turns[-1][1] for view in views if view.turns]
    assert written[0] == "" and all(b.startswith(a) for a, b in pairwise(written))
    last = [view for view in views if view.results][-1].results
    assert [panel.count("data-chunk") for panel in last] == [4, 4]
    assert [panel.count("<img") for panel in last] == [1, 0]
    assert all("uncompressed" in panel and "not timed" not in panel for panel in last)
    assert studio.forget("me").turns == []
    assert list(studio.ask("me", TEXT, [SETTINGS]))[-1].turns == ((TEXT, written[-1]),)


def test_bad_input_is_a_line_in_the_page_and_leaves_the_rest(studio, path, tmp_path):
    [view] = studio.ask("me", TEXT, [SETTINGS])
    assert "video: none is open" in view.message
    list(studio.open("me", path, SETTINGS))
    second = replace(SETTINGS, selector="{name: top_k, detail_ratio: 5}")
    for text, chosen, said in (
        (" ", [SETTINGS], "question: is empty"),
        (TEXT, [replace(SETTINGS, ratios="2, x")], "ratios.1: expected int"),
        (TEXT, [replace(SETTINGS, k=-1)], "selector.k: -1"),
        (TEXT, [SETTINGS, second], "selector.detail_ratio: 5"),
    ):
        *_, view = studio.ask("me", text, chosen)
        assert said in view.message and "\n" not in view.message
    assert len(view.results) == 1 and "data-chunk" in view.results[0]  # that of the first setting


def test_a_question_that_waits_is_not_answered_about_another_video(studio, path):
    """Whenever the other one is opened: before the model begins, while it writes, before it is timed."""
    list(studio.open("me", path, SETTINGS))
    num_views = len(list(studio.ask("me", TEXT, [SETTINGS])))
    for num_seen in range(1, num_views + 1):
        asking = studio.ask("me", TEXT, [SETTINGS], times=True)
        seen = list(islice(asking, num_seen))
        *_, opened = studio.open("me", path, SETTINGS)
        *_, view = asking
        assert len(seen) == num_seen and "Read once" in opened.state
        assert "another video was opened before the answer" in view.message
        assert not view.turns and view.results == [panels.NO_ANSWER]


def test_out_of_memory_is_a_line_in_the_page_and_other_errors_are_raised(studio, path, monkeypatch):
    def failing(error: Exception):
        def fail(*_, **__):
            raise error

        return fail

    full = failing(MemoryError("Unable to allocate 745. GiB\nfor an array"))
    with monkeypatch.context() as patch:
        patch.setattr(Pipeline, "index", full)
        *_, view = studio.open("me", path, SETTINGS)
        assert "out of memory" in view.state and "\n" not in view.state
    list(studio.open("me", path, SETTINGS))
    with monkeypatch.context() as patch:
        patch.setattr(Pipeline, "ask", full)
        *_, view = studio.ask("me", TEXT, [SETTINGS])
        assert "--max-frames" in view.message and "745. GiB for an array" in view.message
        patch.setattr(Pipeline, "ask", failing(RuntimeError("a bug")))
        with pytest.raises(RuntimeError, match="a bug"):
            list(studio.ask("me", TEXT, [SETTINGS]))
    assert "data-chunk" in list(studio.ask("me", TEXT, [SETTINGS]))[-1].results[0]


def test_uploads_go_with_their_visit(studio, path, tmp_path):
    def upload(content: bytes) -> Path:
        (tmp_path / "mine.mp4").write_bytes(content)
        return studio.uploads.claim(tmp_path / "mine.mp4")

    def left() -> list[Path]:
        return [file for file in studio.uploads.folder.rglob("*") if file.is_file()]

    first = upload(path.read_bytes())
    list(studio.open("me", first, SETTINGS))
    assert left() == [first] and first.name == "mine.mp4"
    refused = list(studio.open("me", upload(b"no video" * 99), SETTINGS))[-1].state
    assert "mine.mp4: " in refused and str(studio.uploads.folder) not in refused and left() == [first]
    second = upload(path.read_bytes())
    list(studio.open("me", second, SETTINGS))
    assert left() == [second]
    # Gone before it is opened, and while it is read.
    for num_seen, end in ((1, list), (1, Generator.close), (3, Generator.close)):
        opening = studio.open("me", upload(path.read_bytes()), SETTINGS)
        views = list(islice(opening, num_seen))
        studio.leave("me")
        end(opening)
        assert len(views) == num_seen and left() == []
    list(studio.open("me", upload(path.read_bytes()), SETTINGS))
    for other in range(MOST_SESSIONS):
        list(studio.open(f"visitor {other}", path, SETTINGS))
    assert left() == [] and path.exists()
    list(studio.open("me", upload(path.read_bytes()), SETTINGS))
    studio.leave("me")
    assert left() == []
    list(studio.open("me", upload(path.read_bytes()), SETTINGS))
    assert left()  # the folder itself goes with the run


def test_the_folder_of_uploads_goes_with_the_run():
    with pytest.raises(KeyboardInterrupt), uploads() as folder:
        (folder.folder / "left.mp4").write_bytes(b"")
        raise KeyboardInterrupt
    assert not folder.folder.exists()


def test_an_answer_is_shown_with_its_best_evidence_and_nothing_that_is_code(session):
    index, answer = session.ask(session.question(TEXT), BASE.apply(["selector.k=3"]))
    spans = [Span(chunk, 0.0, 1.0, score) for chunk, score in enumerate((0.1, 0.9, float("-inf"), 0.5))]
    assert [span.chunk for span in best(spans, most=2)] == [1, 3]
    assert middles(index, spans[1:3]).tolist() == [3, 5]
    shown = show("A", session.opened(), index, replace(answer, text="<script>alert(1)</script>"))
    drawn = panels.result(replace(shown, notes=["<b>"]))
    assert "<script>" not in drawn and "&lt;script&gt;" in drawn and "<b>" not in drawn
    assert drawn.count("<img") == 3
    assert f"{answer.kv_tokens:,}" in drawn and f"uncompressed {answer.kv_tokens_full:,}" in drawn


def test_jobs_run_one_at_a_time_and_tell_what_they_warn_of():
    worker, running, seen = Worker(), threading.Semaphore(1), []

    def job(tell):
        assert running.acquire(blocking=False)
        tell("begun")
        warnings.warn_explicit("unknown words", UserWarning, "session.py", 1, module="x2l.web.session")
        warnings.warn_explicit("not ours", UserWarning, "other.py", 1, module="other")
        running.release()
        return 7

    def wait() -> None:
        run = worker.run(job)
        told = []
        try:
            while True:
                told.append(next(run))
        except StopIteration as end:
            seen.append((told, *end.value))

    threads = [threading.Thread(target=wait) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [(["begun"], 7, ["unknown words"])] * 4


def test_recent_keeps_what_was_used_last():
    gone = []
    recent = Recent(2, gone.append)
    for key in "abac":
        assert recent.get(key, lambda key=key: key.upper()) == key.upper()
    assert gone == ["B"] and len(recent) == 2
    recent.clear()
    assert gone == ["B", "A", "C"] and len(recent) == 0


def test_visitors_who_come_at_a_time_share_what_one_of_them_made():
    made, recent = [], Recent(2)

    def make() -> int:
        time.sleep(0.01)
        made.append(1)
        return len(made)

    with ThreadPoolExecutor(4) as visitors:
        assert list(visitors.map(lambda _: recent.get("key", make), range(8))) == [1] * 8


def test_the_sample_is_the_video_of_the_examples_with_questions_of_every_kind():
    offered = sample()
    assert offered.path.resolve() == ROOT / "examples" / "needles.mp4"
    assert offered.questions[0].startswith("What number is on the yellow triangle")
    assert len({*offered.questions}) == len(offered.questions) >= 4

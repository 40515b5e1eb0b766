"""`x2l web` in a real browser: the sample is read and asked, and nothing is fetched from elsewhere.

With X2L_SCREENSHOTS=docs, the pictures of docs/web.md are taken on the way.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from io import BytesIO
from pathlib import Path

import av
import pytest
from pages import commands
from PIL import Image
from playwright.sync_api import Browser, Page, expect, sync_playwright

from x2l.cli import main
from x2l.cli.web import web
from x2l.web.session import MOST_INDICES, TIMES
from x2l.web.shown import MOST_SPANS
from x2l.web.studio import MOST_SESSIONS

ROOT = Path(__file__).parents[2]
NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
QUESTION = "What number is on the yellow triangle in the scene with the striped black frame?"
WAIT_MS = 180_000

in_browser = pytest.mark.skipif(CHROMIUM is None, reason=f"needs a browser: one of {', '.join(NAMES)}")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Where the server puts what it keeps."""
    return tmp_path_factory.mktemp("web")


@pytest.fixture(scope="module")
def address(folder):
    """Of a server in a process of its own, which takes uploads of up to 1 MB."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "x2l.cli", "web", "--port", str(port), "--max-upload", "1"]
    environment = os.environ | {"TMPDIR": str(folder)}
    server = subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True)
    told = server.stdout.readline()
    yield told.split()[2]
    server.send_signal(signal.SIGTERM)
    assert server.wait(timeout=120) == 0
    assert not list(folder.glob("x2l-web-*")), "uploads are left"


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser, address: str):
    """A tab with the page; the test fails if it fetches something from elsewhere, or its script fails."""
    page = browser.new_page(viewport={"width": 1280, "height": 960}, reduced_motion="reduce")
    page.set_default_timeout(WAIT_MS)
    expect.set_options(timeout=WAIT_MS)
    elsewhere, errors = [], []
    own = (address, "data:", "blob:")
    page.on("request", lambda sent: sent.url.startswith(own) or elsewhere.append(sent.url))
    page.on("pageerror", lambda error: errors.append(error))
    page.goto(address)
    expect(page.locator(".x2l-empty")).to_have_count(2)
    yield page
    page.close()
    assert (elsewhere, errors) == ([], [])


def take(page: Page, name: str) -> None:
    """A picture for docs, of few colours and so of few bytes."""
    if folder := os.environ.get("X2L_SCREENSHOTS"):
        page.wait_for_timeout(500)
        picture = Image.open(BytesIO(page.screenshot(full_page=True))).convert("RGB")
        palette = picture.quantize(192, dither=Image.Dither.NONE)
        palette.save(ROOT / folder / f"web-{name}.png", optimize=True)


def ask(page: Page, text: str) -> None:
    """The button is pressed as soon as the answer before is complete."""
    page.get_by_label("Question", exact=True).fill(text)
    page.get_by_role("button", name="Ask", exact=True).click()


def choose(page: Page, slot: str, method: str) -> None:
    page.get_by_label(slot, exact=True).first.fill(method)
    page.get_by_label(slot, exact=True).first.press("Enter")


def seconds(page: Page) -> float:
    return page.locator(".x2l-stage video").evaluate("video => video.currentTime")


@in_browser
def test_a_visit(page):
    take(page, "idle")
    page.get_by_role("button", name="Sample video").click()
    expect(page.locator(".x2l-progress i").nth(3)).to_be_visible()
    take(page, "reading")
    ready = page.locator(".x2l-ready")
    expect(ready).to_contain_text("22 chunks at 2x, 8x")

    page.get_by_label("Select example 1").click()
    expect(page.get_by_label("Question", exact=True)).to_have_value(QUESTION)
    page.get_by_role("button", name="Ask", exact=True).click()
    result = page.locator(".x2l-result")
    expect(result.locator(".x2l-answer")).to_have_text("7")
    expect(page.locator("#chat")).to_contain_text("7")
    expect(result).to_contain_text("610")
    expect(result).to_contain_text("uncompressed 3,440")
    expect(result.locator(".x2l-timeline [data-chunk]")).to_have_count(22)
    shown = result.locator(".x2l-evidence button")
    expect(shown.nth(2)).to_contain_text("3:10–3:19")
    shown.nth(2).click()
    page.wait_for_function("Math.abs(document.querySelector('.x2l-stage video').currentTime - 190) < 0.1")
    result.locator("[data-chunk='8']").click()
    page.wait_for_function("Math.abs(document.querySelector('.x2l-stage video').currentTime - 80) < 0.1")
    result.locator("[data-chunk='20']").press("Enter")
    assert seconds(page) == pytest.approx(200, abs=0.1)
    take(page, "answered")

    page.get_by_label("Side by side").check()
    page.get_by_label("Uncompressed, too").check()
    ask(page, QUESTION)
    expect(page.get_by_role("button", name="Ask", exact=True)).to_be_disabled()
    expect(result.nth(1)).to_contain_text("says")
    expect(result.locator(".x2l-answer")).to_have_text(["7", "7"])
    expect(result.nth(1)).to_contain_text("1,720")
    expect(result.nth(1).locator(".x2l-lines .level")).to_have_count(22)
    take(page, "side-by-side")

    # Another oracle and another k: nothing is read again.
    read_in = ready.inner_text()
    page.get_by_label("Uncompressed, too").uncheck()
    choose(page, "oracle", "{name: attention, similarity: cosine}")
    page.get_by_label("k", exact=True).first.fill("1")
    ask(page, QUESTION)
    expect(shown).to_have_count(1)
    assert ready.inner_text() == read_in

    page.get_by_label("ratios").first.fill("2, 8, many")
    ask(page, QUESTION)
    expect(page.get_by_role("alert")).to_have_text("ratios.2: expected int, got 'many'")
    expect(result).to_have_count(2)
    take(page, "error")

    page.get_by_label("ratios").first.fill("2, 8")
    hostile = '<img src="https://example.com/x.png"> <b>2 < 3</b> {{ 7 * 7 }} ${7*7} **a**'
    ask(page, hostile)
    expect(page.locator("#chat")).to_contain_text(hostile)
    expect(page.locator("#chat .message img, #chat b")).to_have_count(0)


@in_browser
def test_another_tab_is_another_visit_and_uploads_are_bounded(page, folder, tmp_path):
    ask(page, QUESTION)
    expect(page.get_by_role("alert")).to_contain_text("video: none is open")
    chooser = page.locator("input[type=file]").first
    chooser.set_input_files(ROOT / "examples" / "needles.mp4")
    expect(page.get_by_text("exceed the maximum allowed size")).to_be_visible()
    (tmp_path / "text.mp4").write_text("no video " * 100)
    chooser.set_input_files(tmp_path / "text.mp4")
    expect(page.get_by_role("alert").first).to_contain_text("text.mp4: ")
    chooser.set_input_files(shortened(tmp_path / "short.mp4"))
    expect(page.locator(".x2l-ready")).to_contain_text("2 chunks")
    assert len(list(folder.rglob("short.mp4"))) == 1
    page.wait_for_function("document.querySelector('.x2l-stage video').readyState >= 1")
    page.close()
    deadline = time.monotonic() + 20
    while list(folder.rglob("*.mp4")):
        assert time.monotonic() < deadline, "an upload outlives its visit"
        time.sleep(0.2)


def shortened(path: Path) -> Path:
    """The first 14 seconds of the sample, as they are coded."""
    with av.open(ROOT / "examples" / "needles.mp4") as whole, av.open(path, "w") as short:
        stream = short.add_stream_from_template(whole.streams.video[0])
        for packet in whole.demux(video=0):
            if packet.dts is not None and packet.pts * packet.time_base < 14:
                packet.stream = stream
                short.mux(packet)
    return path


def test_the_page_of_docs_shows_and_bounds_what_is_so():
    text = (ROOT / "docs" / "web.md").read_text(encoding="utf-8")
    assert commands(text) == [["web"]]  # that of `address`
    [most] = [option.default for option in web.params if option.name == "max_upload"]
    bounds = {"the last eight visits": MOST_SESSIONS, "three indices": MOST_INDICES, "median of five": TIMES}
    assert list(bounds.values()) == [8, 3, 5] and (MOST_SPANS, most) == (8, 500)
    said = " ".join(text.split())
    assert all(words in said for words in (*bounds, "best eight", "500 MB"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["none.mp4"], "none.mp4"),
        (["."], "expected a video file"),
        (["--oracle", "attentoin"], "did you mean 'attention'"),
        (["--max-upload", "0"], "--max-upload"),
    ],
)
def test_bad_arguments_are_refused_before_a_model_is_loaded(arguments, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["web", *arguments]) == 2
    assert said in capsys.readouterr().err


def test_a_port_that_is_taken_is_named(capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main(["web", "--port", str(port), "--quiet"]) == 2
    assert f"--port: {port} cannot be had" in capsys.readouterr().err

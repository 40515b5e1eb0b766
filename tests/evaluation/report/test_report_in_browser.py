"""A report in a real browser: sorted, pointed at, and asked where two rows differ."""

import shutil

import pytest
from made_runs import made_run, wrong

from x2l.evaluation.report import write_report

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
ROWS = {
    "half": [{}, wrong(1), {}, wrong(3)],
    "all right": [{}] * 4,
    "first": [{}, wrong(1), wrong(2), wrong(3)],
}


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The page as a file; what its scripts complain about fails."""
    from playwright.sync_api import sync_playwright

    folder = tmp_path_factory.mktemp("browser")
    write_report([made_run(folder / "run", ROWS)], folder / "page.html")
    errors = []
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        shown = browser.new_page()
        shown.on("pageerror", lambda error: errors.append(str(error)))
        shown.on("console", lambda message: errors.append(message.text))
        shown.goto((folder / "page.html").as_uri())
        yield shown
        browser.close()
    assert not errors


def rows(page):
    return page.locator("table.main tbody th").all_inner_texts()


def test_a_click_on_a_heading_sorts_and_another_turns_the_order(page):
    assert rows(page) == list(ROWS)
    page.get_by_role("button", name="all (4)").click()
    assert rows(page) == ["all right", "half", "first"]
    page.get_by_role("button", name="all (4)").click()
    assert rows(page) == ["first", "half", "all right"]
    page.get_by_role("button", name="row").click()
    assert rows(page) == ["all right", "first", "half"]


def test_a_mark_tells_its_numbers(page):
    page.locator(".mark[data-row='2'] circle:not(.hit)").last.hover()
    assert page.locator("#tip").inner_text().splitlines()[:2] == ["first", "all: 0.25 [0.00, 0.50], n = 4"]
    assert page.locator("table.main tr.lit th").inner_text() == "first"
    page.locator("h1").hover()
    assert page.locator("#tip").is_hidden()


def test_two_rows_are_chosen_and_what_they_answer_differently_is_seen(page):
    page.select_option("#one", label="all right")
    page.select_option("#other", label="first")
    questions = page.locator("article:visible h3")
    assert sorted(questions.all_inner_texts()) == [f"Which number, n{i}?" for i in (1, 2, 3)]
    told = "3 questions are answered differently: 3 only by the first rightly, 0 only by the second."
    assert page.locator("#told").inner_text().startswith(told)
    page.select_option("#group", "detail")
    assert questions.all_inner_texts() == ["Which number, n2?"]
    said = page.locator("article:visible .said:visible")
    assert [each.split("\n")[:2] for each in said.all_inner_texts()] == [
        ["all right", "2 right"],
        ["first", "not 2 wrong"],
    ]
    said.first.locator(".x2l-timeline [data-chunk]").nth(2).hover()
    assert page.locator("#tip").inner_text() == "chunk 2: 0:20–0:30\n2x\nscore 1\nholds the answer"
    page.select_option("#verdict", "other")
    assert questions.count() == 0
    page.select_option("#other", label="all right")
    assert page.locator("#told").inner_text().startswith("0 questions")

"""The built book in a real browser, without a network: no script fails, nothing is fetched, no formula is in error."""

from pathlib import Path

import pytest
from browser import CHROMIUM, Browser

HTML = Path(__file__).resolve().parents[1] / "_build" / "html"
PAGES = sorted([*HTML.glob("book/**/*.html"), *HTML.glob("search.html"), *HTML.glob("genindex.html")])
OVERHANG = "document.documentElement.scrollWidth - innerWidth"

pytestmark = [
    pytest.mark.skipif(not PAGES, reason="the book has not been built"),
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed"),
]


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    made = Browser(tmp_path_factory.mktemp("chromium"))
    yield made
    made.close()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(HTML)))
def test_page_opens_without_error_network_or_sideways_scrolling(browser, page):
    browser.resize(1280)
    errors, complaints = browser.open(page)
    assert not complaints
    assert errors == 0, f"{errors} formulas that MathJax cannot read"
    for width in (1280, 390):
        browser.resize(width)
        assert browser.run(OVERHANG) <= 0, f"at {width} pixels the page scrolls sideways"


def test_browser_notices_what_it_should(browser, tmp_path):
    page = tmp_path / "page.html"
    page.write_text(
        "<!doctype html><script>nothing()</script><img src='https://a.example/x.png'><p style='width: 900px'>wide"
    )
    browser.resize(390)
    _, complaints = browser.open(page)
    assert any("nothing is not defined" in text for text in complaints)
    assert any("https://a.example/x.png" in text for text in complaints)
    assert browser.run(OVERHANG) > 0

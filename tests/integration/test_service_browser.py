"""The service's pages in a real browser, on a desk in the light and on a phone in the dark."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.browser import needs_chromium, watched_page
from tests.integration.test_service import served

pytestmark = needs_chromium

EVIL = "<script>document.title='taken'</script>"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    folder = tmp_path_factory.mktemp("browser")
    lines = [
        {"match": "rain", "reply": "I would rather not say."},
        {"match": "", "reply": f"The first is right. {EVIL} [[A]]"},
    ]
    rows = [
        {
            "prompt": f"What is {n}? {EVIL}" + (" rain" if n % 9 == 0 else ""),
            "response_a": f"It is {n}, surely. {EVIL} " * 8,
            "response_b": "No idea.",
            "model_a": "alpha",
            "model_b": "beta",
        }
        for n in range(40)
    ]
    script, pairs = folder / "script.jsonl", folder / "pairs.jsonl"
    script.write_text("".join(json.dumps(line) + "\n" for line in lines))
    pairs.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with served(folder, "-m", f"scripted/{script}") as (_, url):
        yield url, pairs


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)])
def test_a_run_is_made_watched_read_and_judged_by_keyboard(
    service: tuple[str, Path], scheme: str, width: int
) -> None:
    url, pairs = service
    with watched_page(url, scheme, width) as page:
        _make_a_run(page, url, pairs, scheme)
        run = page.url
        _read_verdicts(page, run)
        _judge_twenty(page, run)
        _press_too_early(page)
        for path in ("", "/verdicts", "/verdicts/2", "/label"):
            page.goto(run + path)
            assert page.evaluate("document.documentElement.scrollWidth") <= width, path
            assert page.title() != "taken"
            assert page.evaluate(UNNAMED) == [], path


UNNAMED = """() => [...document.querySelectorAll("input, select, button, a, progress")]
  .filter((e) => e.type !== "hidden")
  .filter((e) => !(e.labels?.length || e.textContent.trim() || e.getAttribute("aria-label")))
  .map((e) => e.outerHTML)"""
"""What can be operated and has no name that a screen reader could say."""


def _make_a_run(page: Any, url: str, pairs: Path, scheme: str) -> None:
    page.goto(url)
    page.set_input_files("input[name=file]", str(pairs))
    page.select_option("select[name=kind]", "compare")
    page.fill("input[name=title]", f"Numbers {EVIL} {scheme}")
    page.click("button.main")
    page.wait_for_url("**/runs/*")
    page.wait_for_selector("text=Judge pairs", timeout=60_000)
    assert "40 of 40" in page.content()


def _read_verdicts(page: Any, run: str) -> None:
    page.goto(f"{run}/verdicts")
    page.wait_for_selector("text=40 verdicts", timeout=60_000)
    page.keyboard.press("/")
    page.keyboard.type("rain")
    page.keyboard.press("Enter")
    page.wait_for_selector("text=5 verdicts")
    page.goto(f"{run}/verdicts/2")
    page.keyboard.press("j")
    page.wait_for_url("**/verdicts/3")
    assert "[[A]]" in page.content()
    page.keyboard.press("k")
    page.wait_for_url("**/verdicts/2")


def _judge_twenty(page: Any, run: str) -> None:
    page.goto(f"{run}/label")
    for done in range(20):
        page.wait_for_selector(f"text={done} judged")
        _loaded(page)
        page.keyboard.press("0")
    page.wait_for_selector("text=20 judged")
    before = page.inner_text(".subtitle")
    _loaded(page)
    page.keyboard.press("u")
    page.wait_for_selector("text=19 judged")
    _loaded(page)
    page.keyboard.press("1")
    page.wait_for_selector("text=20 judged")
    assert page.inner_text(".subtitle") != before


def _press_too_early(page: Any) -> None:
    """A key for the next item that comes before it is there does not change the last one."""
    sent, held = list[str](), list[Any]()
    page.on("request", lambda one: sent.append(one.url) if one.method == "POST" else None)
    page.route("**/label", lambda route: held.append(route))  # noqa: PLW0108
    _loaded(page)
    page.keyboard.press("1")
    while not held:  # the label is kept, and the page is asked for anew
        page.wait_for_timeout(20)
    page.keyboard.press("2")
    page.wait_for_timeout(200)
    held[0].continue_()
    page.wait_for_selector("text=21 judged")
    page.unroute("**/label")
    assert len(sent) == 1


def _loaded(page: Any) -> None:
    """Wait until the page's script listens to keys: its text is there before."""
    page.wait_for_function("document.readyState === 'complete'")

"""People rate responses in a real browser by keyboard alone, in the light and in the dark."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from rlaif.service.config import JudgeConfig, ServiceConfig
from tests.integration.browser import needs_chromium, watched_page
from tests.unit.service.conftest import Running, listening
from tests.unit.service.test_pages import judged, shown
from tests.unit.service.test_runs import ended, send

pytestmark = needs_chromium

EVIL = "<script>document.title='taken'</script>"
RUBRIC = """
name: two-sides
version: 1.0.0
description: Clear and deep.
source: ours
criteria:
  - name: clarity
    question: Is it clear?
    scale: {min: 1, max: 5, anchors: {1: Muddled throughout., 5: Clear throughout.}}
  - name: depth
    question: Does it go deep?
    scale: {min: 1, max: 10, anchors: {1: Shallow., 10: Deep.}}
"""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, str, str]]:
    folder = tmp_path_factory.mktemp("rating")
    script, rubric = folder / "script.jsonl", folder / "two.yaml"
    lines = [
        {"match": "clarity", "reply": "clarity: [[4]]\ndepth: [[7]]"},
        {"match": "", "reply": "Fine. [[4]]"},
    ]
    script.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    rubric.write_text(RUBRIC, encoding="utf-8")
    judges = {
        "default": JudgeConfig(model=f"scripted/{script}"),
        "two": JudgeConfig(model=f"scripted/{script}", rubric=str(rubric)),
    }
    rows = [
        {"prompt": f"What is {n}? {EVIL}", "response": f"It is {n}. {EVIL} " * 6, "model": "alpha"}
        for n in range(24)
    ]
    with listening(ServiceConfig(judges=judges), folder / "root") as running:
        one = judged(running, rows, "score", "One scale")
        body = {"kind": "score", "judge": "two", "data": {"upload": send(running, rows)}}
        two = str(ended(running, running.post("/v1/runs", body).json()["id"])["id"])
        for name in (one, two):
            shown(running, f"/runs/{name}/verdicts")
        yield running, one, two


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)])
def test_ten_ratings_are_given_by_keyboard_alone(
    service: tuple[Running, str, str], scheme: str, width: int
) -> None:
    running, one, two = service
    with watched_page(running.url, scheme, width) as page:
        running.service.database.change("DELETE FROM labels")
        _one_key_each(page, f"{running.url}/runs/{one}/label")
        _two_grades_each(page, f"{running.url}/runs/{two}/label")
        for path in (f"{one}/label", f"{two}/label", f"{one}/people"):
            page.goto(f"{running.url}/runs/{path}")
            assert page.evaluate("document.documentElement.scrollWidth") <= width, path
            assert page.title() != "taken"
        _labelled_by_two(page, running, one)
    assert _levels(running, one) == [2, 3, 3, 4, 4, 5]
    assert _levels(running, two, "depth") == [1, 2, 3, 4, 10]


def _levels(running: Running, name: str, criterion: str = "helpfulness") -> list[float]:
    lines = running.get(f"/v1/runs/{name}/labels").text.splitlines()
    return sorted(json.loads(line)["score"]["criteria"][criterion]["value"] for line in lines)


def _labelled_by_two(page: Any, running: Running, name: str) -> None:
    """On the page of a run's people its overlap is set, and a file of labels brought."""
    first = json.loads(running.get(f"/v1/runs/{name}/verdicts").text.splitlines()[0])
    row = {"id": first["item"]["id"], "annotator": "ben", "model": "alpha", "score": 3}
    row |= {"min": 1, "max": 5}
    page.fill("input[name=overlap]", "2")
    page.keyboard.press("Enter")
    page.wait_for_selector("input[name=overlap][value='2']")
    content = json.dumps(row).encode()
    labels = {"name": "labels.jsonl", "mimeType": "application/json", "buffer": content}
    page.set_input_files("input[name=file]", labels)
    page.click("text=Bring them")
    page.wait_for_selector("text=1 labels kept, 0 were there already")


def _one_key_each(page: Any, address: str) -> None:
    page.goto(address)
    for done, key in enumerate("23445"):
        page.wait_for_selector(f"text={done} judged")
        if done == 4:
            page.keyboard.press("u")
            page.wait_for_selector("text=3 judged")
            page.keyboard.press("4")
            page.wait_for_selector("text=4 judged")
        page.keyboard.press(key)
    page.wait_for_selector("text=5 judged")
    page.keyboard.press("s")
    page.wait_for_selector("text=18 left")


def _two_grades_each(page: Any, address: str) -> None:
    page.goto(address)
    for done, key in enumerate("12340"):
        page.wait_for_selector(f"text={done} judged")
        page.keyboard.press("Enter")
        assert "first" in page.inner_text(".message")
        page.keyboard.press("4")
        page.keyboard.press(key)
        page.keyboard.press("Enter")
    page.wait_for_selector("text=5 judged")

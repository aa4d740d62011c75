"""Every page of the service under axe, in a real browser, and by keyboard alone."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from rlaif.service.app import OPERATIONS
from rlaif.service.config import JudgeConfig, ServiceConfig
from tests.integration.browser import Page, needs_chromium, page_of
from tests.unit.service.conftest import Running, listening

axe = pytest.importorskip("axe_playwright_python.base")
pytestmark = needs_chromium

LOOKS = [("light", 1280), ("dark", 390)]
OTHER_LOOKS = [("light", 390), ("dark", 1280)]
KINDS: dict[str, dict[str, Any]] = {
    "score": {"response": "It is nine. " * 40},
    "compare": {"response_a": "Nine.", "response_b": "Ten.", "model_a": "one", "model_b": "two"},
    "rank": {"responses": ["Nine.", "Ten.", "Eleven."]},
}
PAGES = {one.path for one in OPERATIONS if one.tag == "pages" and one.method == "GET"}
PAGES -= {"/static/{name}"}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, str]]:
    """A service with runs of each kind that are done, one that failed, and its token."""
    folder = tmp_path_factory.mktemp("pages")
    config = ServiceConfig(
        judges={
            "default": JudgeConfig(model=_judge(folder / "first.jsonl", "A", "B")),
            "contrary": JudgeConfig(model=_judge(folder / "second.jsonl", "B", "A")),
        }
    )
    with listening(config, folder / "root", token=True) as running:
        token = running.tokens.add("ann", ["admin"])
        running.client.headers["authorization"] = f"Bearer {token}"
        for kind in ("score", "compare", "rank"):
            _a_run(running, kind, KINDS[kind])
        _a_run(running, "compare", KINDS["compare"], judge="contrary")
        _a_run(running, "score", {"nothing": "to score"})
        yield running, token


def _judge(script: Path, first: str, second: str) -> str:
    """The address of a judge that says `first` where "Nine." is shown first, else `second`."""
    lines = [
        {"match": "rain", "reply": "I cannot say."},
        {"match": "response_a>\nNine.", "reply": f"Clear. [[{first}]]"},
        {"match": "response_b>\nNine.", "reply": f"Clear. [[{second}]]"},
        {"match": "", "reply": "Mostly. [[4]] [[A]]"},
    ]
    script.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return f"scripted/{script}"


def _a_run(running: Running, kind: str, fields: dict[str, Any], **more: str) -> None:
    asked = ["What of the rain?" if n % 10 == 3 else f"What is {n}?" for n in range(30)]
    rows = ({"prompt": text, "id": n, **fields} for n, text in enumerate(asked))
    body = "".join(json.dumps(row) + "\n" for row in rows)
    upload = running.client.post("/v1/uploads", content=body).json()["upload"]
    work = {"kind": kind, "data": {"upload": upload}, "title": f"Numbers, {kind}", **more}
    name = running.post("/v1/runs", work).json()["id"]
    end_s = time.monotonic() + 60
    while running.get(f"/v1/runs/{name}").json()["state"] not in ("done", "failed"):
        assert time.monotonic() < end_s
        time.sleep(0.05)
    while "being indexed" in running.get(f"/runs/{name}/verdicts").text:
        assert time.monotonic() < end_s
        time.sleep(0.1)


@pytest.fixture(scope="module")
def page(served: tuple[Running, str]) -> Iterator[Page]:
    """A page of a browser in which somebody signed in, by keyboard."""
    running, token = served
    with page_of(bypass_csp=True) as page:
        page.goto(f"{running.url}/login")
        page.keyboard.type(token)
        page.keyboard.press("Enter")
        page.wait_for_url(f"{running.url}/")
        yield page


def found(page: Page, running: Running) -> dict[str, str]:
    """One address of every page that links lead to, by its route and the kind of its run."""
    patterns = {path: re.compile(re.sub(r"\{\w+\}", "[^/]+", path)) for path in PAGES}
    left, seen = ["/", "/login", "/runs/none"], dict[str, str]()
    while left:
        address = left.pop(0)
        bare = address.partition("?")[0]
        route = next((path for path, one in patterns.items() if one.fullmatch(bare)), None)
        answer = running.client.get(address, headers={"accept": "text/html"})
        title = re.search(r"Numbers, (\w+)", answer.text)
        key = f"{answer.status_code} {route} {title[1] if title else ''}"
        if route is None or key in seen:
            continue
        seen[key] = address
        left += re.findall(r'(?:href|action)="(/[^"#]*)"', answer.text)
        if route == "/":
            pairs = r'<option value="([0-9a-f]{16})"[^>]*>Numbers, compare'
            one, other = re.findall(pairs, answer.text)[:2]
            left.append(f"/flips?a={one}&b={other}")
    assert {key.split()[1] for key in seen} == PAGES
    return seen


def violations(page: Page, looks: list[tuple[str, int]]) -> list[str]:
    """What axe finds wrong on the page, and whether it is wider than the screen."""
    told = []
    page.evaluate(axe.AXE_SCRIPT)
    for scheme, width in looks:
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size({"width": width, "height": 900})
        if page.evaluate("document.documentElement.scrollWidth") > width:
            told.append(f"{scheme} {width}: wider than the screen")
        result = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
        for one in result["violations"]:
            nodes = "; ".join(node["html"][:120] for node in one["nodes"][:3])
            told.append(f"{scheme} {width}: {one['id']}, {one['help']}: {nodes}")
    return told


def check(page: Page, running: Running, looks: list[tuple[str, int]]) -> None:
    wrong = {}
    for key, address in found(page, running).items():
        if key.split()[1].endswith("/report"):
            # served with scripts forbidden, axe's own too: the same text without that
            page.set_content(running.get(address).text)
        else:
            page.goto(running.url + address)
        if told := violations(page, looks):
            wrong[address] = told
    assert wrong == {}


def test_axe_finds_nothing_wrong_on_any_page(page: Page, served: tuple[Running, str]) -> None:
    check(page, served[0], LOOKS)


@pytest.mark.slow
def test_axe_finds_nothing_wrong_in_the_other_looks(
    page: Page, served: tuple[Running, str]
) -> None:
    check(page, served[0], OTHER_LOOKS)


FOCUSABLE = """() => [...document.querySelectorAll("a[href], button, input, select, textarea")]
  .filter((e) => e.type !== "hidden" && e.checkVisibility())
  .map((e, n) => { e.dataset.place = n; return n; }).length"""
FOCUSED = """() => {
  const e = document.activeElement;
  const style = getComputedStyle(e);
  return [e.dataset.place ?? null, style.outlineStyle !== "none" || style.boxShadow !== "none"];
}"""


def test_tab_goes_to_everything_in_its_order_and_is_trapped_nowhere(
    page: Page, served: tuple[Running, str]
) -> None:
    running, _ = served
    page.set_viewport_size({"width": 1280, "height": 900})
    for key, address in found(page, running).items():
        if key.split()[1].endswith(("/report", "/verdicts")):
            continue  # one has nothing to operate, the other as many links as verdicts
        page.goto(running.url + address)
        count = page.evaluate(FOCUSABLE)
        went = []
        for _ in range(count + 1):  # one stop is the browser's own
            page.keyboard.press("Tab")
            went.append(page.evaluate(FOCUSED))
        places = [int(place) for place, _ in went if place is not None]
        assert sorted(places[:count]) == list(range(count)), address
        assert all((b - a) % count == 1 % count for a, b in pairwise(places)), address
        assert all(outlined for place, outlined in went if place is not None), address


def test_two_runs_are_compared_from_the_list(page: Page, served: tuple[Running, str]) -> None:
    running, _ = served
    wrong: list[str] = []
    hosts: set[str] = set()
    page.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda request: hosts.add(request.url.split("/")[2]))
    page.goto(running.url)
    runs = page.locator('select[name="a"] option').evaluate_all("all => all.map((e) => e.value)")
    kinds = {name: running.get(f"/v1/runs/{name}").json()["kind"] for name in runs}
    one, other = (name for name, kind in kinds.items() if kind == "compare")
    page.select_option('select[name="a"]', one)
    page.select_option('select[name="b"]', other)
    page.get_by_role("button", name="Compare", exact=True).press("Enter")
    page.wait_for_url("**/flips?*")
    assert "27 of 30 that both runs judged (90.0%)" in page.inner_text("main")
    page.keyboard.press("j")
    page.wait_for_url("**page=2*")
    page.locator(".list a").first.press("Enter")
    page.wait_for_url(f"**/runs/{one}/verdicts/*")
    assert wrong == []
    assert hosts == {running.url.removeprefix("http://")}


def test_whoever_signs_out_is_out(page: Page, served: tuple[Running, str]) -> None:
    running, token = served
    other = page.context.browser.new_context().new_page()
    other.goto(running.url)
    other.wait_for_url("**/login")
    other.keyboard.type("rlaif_1_wrong")
    other.keyboard.press("Enter")
    other.wait_for_selector("text=Nobody has that token.")
    other.keyboard.type(token)
    other.keyboard.press("Enter")
    other.wait_for_url(f"{running.url}/")
    other.get_by_role("button", name="Sign out").press("Enter")
    other.wait_for_url("**/login")
    other.goto(running.url)
    other.wait_for_url("**/login")

"""A real browser, as the tests of the service's pages use one; they skip where there is none."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

sync_api = pytest.importorskip("playwright.sync_api")
_CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
needs_chromium = pytest.mark.skipif(_CHROMIUM is None, reason="there is no Chromium")

Page = Any


@contextmanager
def page_of(**context: Any) -> Iterator[Page]:
    """A page of a new browser, whose context has these options; closed when the block ends."""
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=_CHROMIUM, args=["--no-sandbox"])
        yield browser.new_context(**context).new_page()
        browser.close()


@contextmanager
def watched_page(url: str, scheme: str, width: int) -> Iterator[Page]:
    """A page so wide, in that colour scheme; at the end it has had no error, nor left `url`."""
    wrong: list[str] = []
    hosts: set[str] = set()
    with page_of(color_scheme=scheme, viewport={"width": width, "height": 900}) as page:
        page.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda request: hosts.add(request.url.split("/")[2]))
        yield page
    assert wrong == []
    assert hosts == {url.removeprefix("http://")}

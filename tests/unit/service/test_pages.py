"""Pages: what they show, that judged text is only text, and who may change anything from them."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from rlaif.errors import StoreError
from rlaif.service.accounts import LOCAL, TokenBook
from rlaif.service.config import Limits
from rlaif.service.database import Database
from rlaif.service.index import Filter, VerdictIndex, build, main
from rlaif.service.runs import RunBook
from rlaif.service.sessions import COOKIE, Sessions
from rlaif.store.locks import Claims
from tests.builders import verdict
from tests.unit.service.conftest import CHOICE, GRADE, Running, Serve
from tests.unit.service.test_runs import ended, send

EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>\" onload='x' \u202e"
PAGE = {"accept": "text/html"}


def judged(running: Running, rows: list[dict[str, Any]], kind: str, title: str = "run") -> str:
    body = {"kind": kind, "data": {"upload": send(running, rows)}, "title": title}
    return str(ended(running, running.post("/v1/runs", body).json()["id"])["id"])


def shown(running: Running, path: str, longest_s: float = 30.0) -> str:
    """The page once it is indexed."""
    until_s = time.monotonic() + longest_s
    while time.monotonic() < until_s:
        answer = running.get(path, headers=PAGE)
        assert answer.status_code == 200, answer.text
        if "data-waits" not in answer.text:
            return answer.text
        time.sleep(0.1)
    raise AssertionError("the index is not made")


def write(folder: Path, *verdicts: Any) -> Path:
    folder.mkdir()
    lines = "".join(json.dumps(one.as_dict()) + "\n" for one in verdicts)
    (folder / "verdicts.jsonl").write_text(lines, encoding="utf-8")
    return folder


def test_a_run_is_looked_at_from_the_list_to_one_verdict(serve: Serve) -> None:
    running = serve(CHOICE)
    rows = [
        {"prompt": EVIL, "response_a": EVIL, "response_b": "Lyon.", "category": "<b>geo</b>"},
        {"prompt": "Why does it rain?", "response_a": "Clouds.", "response_b": "Wet air."},
    ]
    name = judged(running, rows, "compare", title=EVIL)
    for path in ("/", f"/runs/{name}"):
        assert "&lt;script&gt;alert(1)" in running.get(path, headers=PAGE).text
    pages = [
        shown(running, path)
        for path in (
            f"/runs/{name}/verdicts",
            f"/runs/{name}/verdicts/1",
            f"/runs/{name}/verdicts?q={EVIL}",
            f"/runs/{name}/report",
            "/",
            f"/runs/{name}",
        )
    ]
    for text in pages:
        assert "<script>alert" not in text
        assert "<img" not in text
        assert "\u202e" not in text
    assert "2 verdicts" in pages[0]
    assert "AB shown" in pages[1] or "A first" in pages[1] or "[[A]]" in pages[1]
    assert "Held back" in pages[1]
    assert "1 verdict<" in shown(running, f"/runs/{name}/verdicts?q=clouds+rain")
    assert "2 verdicts" in shown(running, f"/runs/{name}/verdicts?reading=inconsistent")
    beyond = shown(running, f"/runs/{name}/verdicts?model=nobody&page=99999")
    assert "0 verdicts" in beyond
    assert re.findall(r'href="[^"]*page=(\d+)"', beyond) == ["1"]
    assert running.get(f"/runs/{name}/verdicts/3", headers=PAGE).status_code == 404
    assert running.get("/runs/nothing", headers=PAGE).status_code == 404


def test_from_one_verdict_to_the_next_of_the_list_that_it_was_opened_from(serve: Serve) -> None:
    running = serve(CHOICE)
    asked = ("rain", "snow", "rain", "hail", "rain")
    rows = [{"prompt": f"Why {one}?", "response_a": "a", "response_b": "b"} for one in asked]
    here = f"/runs/{judged(running, rows, 'compare')}/verdicts"
    listed = shown(running, f"{here}?q=rain&reading=inconsistent")
    opened = re.findall(rf'href="({here}/\d+[^"]*)"', listed)
    query = "?q=rain&amp;reading=inconsistent"
    assert opened == [f"{here}/{n}{query}" for n in (1, 3, 5)]
    text = shown(running, opened[1].replace("&amp;", "&"))
    assert f'rel="prev" href="{opened[0]}"' in text
    assert f'rel="next" href="{opened[2]}"' in text
    assert f'href="{here}{query}">Verdicts' in text
    text = shown(running, f"{here}/5")
    assert f'rel="prev" href="{here}/4"' in text
    assert 'rel="next"' not in text


def test_a_verdict_alone_is_shown_whole(serve: Serve) -> None:
    running = serve()
    rows = [{"prompt": "x", "response": "word " * 3000 + "END"}]
    text = shown(running, f"/runs/{judged(running, rows, 'score')}/verdicts/1")
    assert "word END" in text
    assert "left out" not in text


def test_two_runs_are_compared(serve: Serve) -> None:
    running = serve({"match": "Who?", "reply": "[[5]]"}, GRADE)
    rows = [{"prompt": "Who?", "response": "Me.", "id": "x"}, {"prompt": "Why?", "response": "So."}]
    one = judged(running, rows, "score", "one")
    other = judged(running, [{**rows[0], "prompt": "What?"}, rows[1]], "score", "other")
    text = shown(running, f"/flips?a={one}&b={other}")
    assert "1 of 2" in text
    assert "5 → 4" in text
    assert running.get(f"/flips?a={one}&b=none", headers=PAGE).status_code == 404
    third = judged(running, [{**rows[1], "prompt": "Where?"}], "score", "third")
    assert "There is nothing that both runs judged" in shown(running, f"/flips?a={one}&b={third}")


def test_older_runs_are_a_page_away(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rlaif.service.pages._MOST_RUNS", 2)
    running = serve()
    book = RunBook(running.service.database, Claims(running.service.root / "c"), Limits())
    for n in range(3):
        book.cancel(book.add(LOCAL, f"run {n}", {"kind": "score", "judge": "j", "rubric": "r"}))
    text = running.get("/", headers=PAGE).text
    assert "run 2" in text
    assert "run 0" not in text
    (older,) = re.findall(r'rel="next" href="([^"]+)"', text)
    text = running.get(older, headers=PAGE).text
    assert ("run 2" in text, "run 0" in text, 'rel="next"' in text) == (False, True, False)
    assert running.get("/?before_s=soon", headers=PAGE).status_code == 422


def test_what_nobody_judged_has_no_coverage_and_people_no_cause(serve: Serve) -> None:
    running = serve()
    name = judged(running, [{"prompt": "x"}], "score")
    assert 'data-live="coverage">–<' in running.get(f"/runs/{name}", headers=PAGE).text
    rows = [{"prompt": "x", "response": "y"}]
    body = {"kind": "score", "data": {"upload": send(running, rows)}, "judge": "people"}
    name = ended(running, running.post("/v1/runs", body).json()["id"])["id"]
    text = running.get(f"/runs/{name}", headers=PAGE).text
    assert "No judge is asked" in text
    assert "budget" not in text
    shown(running, f"/runs/{name}/verdicts")
    assert "0 of 0" not in shown(running, f"/runs/{name}/people")


def test_a_page_that_is_not_to_be_had_yet_looks_again_when_it_may(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = serve(CHOICE)
    rows = [{"prompt": "x", "response_a": "a", "response_b": "b"}]
    name = judged(running, rows, "compare")
    monkeypatch.setattr("rlaif.service.indexing.is_indexed", lambda _: False)
    for path in ("label", "people"):
        answer = running.get(f"/runs/{name}/{path}", headers=PAGE)
        assert (answer.status_code, answer.headers["content-type"][:9]) == (409, "text/html")
        assert '<p data-waits="5">' in answer.text
    assert "data-waits" not in running.get("/runs/nothing", headers=PAGE).text


def test_pages_allow_nothing_but_their_own(serve: Serve) -> None:
    running = serve()
    for path in ("/", "/login", "/nothing"):
        answer = running.get(path, headers=PAGE)
        policy = answer.headers["content-security-policy"]
        assert "script-src 'self'" in policy
        assert "unsafe" not in policy
        assert "<script>" not in answer.text
        assert " style=" not in answer.text
        assert " onclick" not in answer.text
        assert re.findall(r'(?:src|href)="(?!/)', answer.text) == []
    for name in ("page.css", "page.js", "icon.svg"):
        assert running.get(f"/static/{name}").status_code == 200
    assert running.get("/static/other").status_code == 404


def test_a_browser_signs_in_with_a_token_and_changes_need_the_page_s_code(serve: Serve) -> None:
    running = serve(token=True)
    token = running.tokens.add("anna", ["judge"])
    with httpx.Client(base_url=running.url, trust_env=False) as browser:
        answer = browser.get("/", headers=PAGE)
        assert (answer.status_code, answer.headers["location"]) == (303, "/login")
        assert browser.post("/login", data={"token": "wrong"}, headers=PAGE).status_code == 401
        answer = browser.post("/login", data={"token": token}, headers=PAGE)
        assert answer.status_code == 303
        cookie = answer.headers["set-cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=strict" in cookie
        assert token not in cookie
        text = browser.get("/", headers=PAGE).text
        assert "anna" in text
        refused = browser.get("/runs/nothing", headers=PAGE)
        assert refused.status_code == 404
        assert "anna" in refused.text
        assert "Sign out" in refused.text
        code = re.search(r'name="code" content="([0-9a-f]{64})"', text)
        assert code
        body = {"prompt": "x", "response": "y"}
        assert browser.post("/v1/score", json=body).status_code == 403
        known = {"x-rlaif-code": code[1]}
        assert browser.post("/v1/score", json=body, headers=known).status_code == 200
        strange = {b"x-rlaif-code": b"\xe9"}
        assert browser.post("/v1/score", json=body, headers=strange).status_code == 403
        running.tokens.revoke("anna")
        assert browser.get("/", headers=PAGE).status_code == 303
        assert browser.post("/logout").status_code in (303, 401)


def test_signing_in_leads_to_the_page_that_was_asked_for_and_nowhere_else(serve: Serve) -> None:
    running = serve(token=True)
    token = running.tokens.add("anna", ["annotate"])
    asked = running.get("/runs/0a1b/label", headers=PAGE).headers["location"]
    assert asked == "/login?to=%2Fruns%2F0a1b%2Flabel"
    assert 'action="/login?to=%2Fruns%2F0a1b%2Flabel"' in running.get(asked, headers=PAGE).text
    answer = running.client.post(asked, data={"token": token})
    assert (answer.status_code, answer.headers["location"]) == (303, "/runs/0a1b/label")
    elsewhere = ("//evil.example", "https://evil.example", "/\\evil.example", "/runs//evil.example",
                 "/runs/../login", "/runs/a\r\nx: y", "/logout", "")  # fmt: skip
    for to in elsewhere:
        answer = running.client.post("/login", params={"to": to}, data={"token": token})
        assert (answer.status_code, answer.headers["location"]) == (303, "/"), to
    page = running.get("/login", params={"to": EVIL}, headers=PAGE).text
    assert "<script>alert" not in page
    assert "onload='" not in page


def test_cookies_that_were_not_signed_here_are_nobody_s(tmp_path: Path) -> None:
    database = Database(tmp_path / "service.sqlite")
    book = TokenBook(database)
    caller = book.caller(book.add("anna", ["judge"]))
    assert caller is not None
    sessions = Sessions(b"a" * 32, book)
    value = sessions.begin(caller)
    known = sessions.caller(f"other=1; {COOKIE}={value}")
    assert known == (caller, value)
    number, until, signed = value.split(".")
    late = f"1.{int(time.time()) - 10}"
    forged = [
        f"2.{until}.{signed}",
        f"{number}.{int(until) + 1}.{signed}",
        f"{late}.{sessions._signed('session', late)}",
        Sessions(b"b" * 32, book).begin(caller),
        "",
        "x",
    ]
    for text in forged:
        assert sessions.caller(f"{COOKIE}={text}") is None, text
    assert sessions.caller("\x00=;;;") is None
    assert sessions.code(value) != sessions.code(value + "x")
    database.close()


def test_an_index_finds_verdicts_by_words_reading_and_model(tmp_path: Path) -> None:
    made = [
        verdict(f"v{n}", p, item_id=f"i{n}", prompt=f"Question {n} about {topic}?", consistent=fair)
        for n, (p, topic, fair) in enumerate(
            [(0.9, "rain", True), (0.5, "snow", True), (0.2, "rain", False), (None, "hail", True)]
        )
    ]
    folder = write(tmp_path / "run", *made)
    build(folder)
    with VerdictIndex(folder) as index:
        assert index.count(Filter()) == 4
        assert [row.n for row in index.listed(Filter(words="RAIN question"))] == [1, 3]
        assert [row.n for row in index.listed(Filter(words='"rain" OR *'))] == []
        assert index.count(Filter(words='" ')) == 4
        for reading, n in (("decided", 1), ("tie", 2), ("inconsistent", 3), ("failed", 4)):
            assert [row.n for row in index.listed(Filter(reading=reading))] == [n]
        assert index.count(Filter(model="m1")) == 4
        assert index.count(Filter(model="m")) == 0
        assert index.listed(Filter(), offset=4) == []
        assert index.verdict(3) == made[2]
        assert index.verdict(5) is None
        assert dict(index.facet("model")) == {"m1": 4, "m2": 4}


def test_an_index_tells_what_two_runs_judged_differently(tmp_path: Path) -> None:
    one = write(tmp_path / "one", verdict("a", 0.9, item_id="x"), verdict("b", 0.9, item_id="y"))
    changed = [verdict("a", 0.1, item_id="x"), verdict("b", 0.8, item_id="y")]
    other = write(tmp_path / "other", *changed, verdict("c", item_id="z"))
    build(one)
    with VerdictIndex(one) as index, pytest.raises(StoreError, match="has no index"):
        index.against(other)
    build(other)
    with VerdictIndex(one) as index:
        shared, flipped, (flip,) = index.against(other)
    assert (shared, flipped) == (2, 1)
    assert (flip.outcome, flip.other_outcome) == ("a", "b")


def test_a_run_that_cannot_be_indexed_says_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    with pytest.raises(StoreError, match="cannot index"):
        build(folder)
    (folder / "verdicts.jsonl").write_text('{"id": 1}\n')
    assert main(folder) == 1
    assert "field" in capsys.readouterr().err
    with pytest.raises(StoreError, match="no index"):
        VerdictIndex(folder)


def test_pages_let_browsers_say_where_their_forms_come_from(serve: Serve) -> None:
    # with `no-referrer` a browser sends the origin "null", and nobody could sign in
    assert serve().get("/login", headers=PAGE).headers["referrer-policy"] == "same-origin"


def test_numbers_and_words_of_any_size_are_no_failure(serve: Serve) -> None:
    running = serve(CHOICE)
    rows = [{"prompt": "x", "response_a": "a", "response_b": "b"}]
    here = f"/runs/{judged(running, rows, 'compare')}/verdicts"
    shown(running, here)
    for n in ("0", "2", "-1", "9" * 20, "9" * 5000, "²", "٣", "x"):
        assert running.get(f"{here}/{n}", headers=PAGE).status_code == 404, n[:20]
    for words in ("\0", "a\0", '\0"', '"', "*", "NEAR(", "\ud800".encode("utf-8", "replace")):
        assert running.get(here, params={"q": words}, headers=PAGE).status_code == 200, words
    for number in ("0", "-1", "9" * 5000, "²", "x"):
        assert running.get(here, params={"page": number}, headers=PAGE).status_code == 200, number

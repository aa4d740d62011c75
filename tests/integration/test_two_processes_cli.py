"""Two processes at once, on one store and the same data."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

from tests.integration.command import running, start, write_rows
from tests.wire import WireServer

PAIRS = 120


def test_two_processes_share_a_store_and_ask_nothing_twice(home: Path) -> None:
    made = ({"prompt": f"Why {n}?", "response_a": "So.", "response_b": "Or."} for n in range(PAIRS))
    data = write_rows(Path("d.jsonl"), *made)
    with WireServer(lambda _: "[[A]]", delay_s=0.02) as server:
        words = ("judge", "compare", data, "-m", "server/judge", "--base-url", server.url, "--json")
        with (
            running(start(*words, "-o", "one", home=home)) as one,
            running(start(*words, "-o", "two", home=home)) as two,
        ):
            ended = [process.communicate(timeout=60) for process in (one, two)]
            assert (one.returncode, two.returncode) == (0, 0), ended
        asked = Counter(json.dumps(call.body["messages"]) for call in server.requests)
    assert len(asked) == 2 * PAIRS
    assert set(asked.values()) == {1}
    summaries = [json.loads(out) for out, _ in ended]
    assert [(s["ok"], s["calls"]) for s in summaries] == [(PAIRS, 2 * PAIRS)] * 2
    assert sum(s["calls_cached"] for s in summaries) == 2 * PAIRS
    assert [err for _, err in ended] == [b"", b""]
    first, second = (_verdicts(folder) for folder in ("one", "two"))
    assert first == second


def _verdicts(folder: str) -> bytes:
    """The verdicts without what may differ."""
    text = Path(folder, "verdicts.jsonl").read_bytes()
    return re.sub(rb'"(latency_s":[-+.e\d]+|cached":(true|false))', b'"', text)

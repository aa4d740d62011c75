"""A test server that has batch APIs too: OpenAI's files and batches, Anthropic's message batches.

    with BatchServer(lambda messages: "[[A]]") as server:
        backend = OpenAIBackend("judge", BackendOptions(api_key="k", base_url=server.url))

A batch ends once it was looked at a few times. Results come in another order than the requests.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from tests.wire import WireServer


@dataclass(frozen=True)
class BatchFault:
    """What goes wrong with one call to a batch API."""

    status: int = 200
    message: str = "no"
    headers: dict[str, str] = field(default_factory=dict)
    drop: bool = False
    """Close the connection without an answer."""
    hang: bool = False
    after: bool = False
    """Do what was asked first."""
    cut: int | None = None
    """Send so many bytes of the results, then close the connection."""
    keep_lines: int | None = None
    """Send so many lines of the results, as if they were all."""


@dataclass
class Sent:
    """A batch that was made."""

    id: str
    requests: list[tuple[str, dict[str, Any]]]
    metadata: dict[str, str] = field(default_factory=dict)
    endpoint: str = ""
    created_s: float = field(default_factory=time.time)
    looks: int = 0
    failed: tuple[str, str] | None = None
    """Code and words of the error that it failed with as a whole."""
    state: str = ""
    """`expired` or `cancelled` where it ended so."""


Outcome = str | tuple[int, dict[str, Any]]
"""`answered`, `expired`, `cancelled`, `missing`, `twice`, `garbage`, or a status and an error."""


class BatchServer(WireServer):
    """Serves batches of one model until its `with` block ends.

    Args:
        reply: As in `WireServer`, with what else it takes in `more`.
        looks: How many times a batch is looked at before it has ended.
        outcome: What comes of a request, by its id, its body and the number of the batch.
        fault: What goes wrong with a call: of `upload`, `create`, `list`, `look` or `results`, and
            how many of these came before.
        refuse: Code and words of the error that a batch fails with, by its number and its size.
        stay: Nothing ends while it is set.
    """

    def __init__(
        self,
        reply: Any = lambda _: "A fixed reply.",
        *,
        looks: int = 2,
        outcome: Callable[[str, dict[str, Any], int], Outcome] = lambda *_: "answered",
        fault: Callable[[str, int], BatchFault | None] = lambda *_: None,
        refuse: Callable[[int, int], tuple[str, str] | None] = lambda *_: None,
        stay: bool = False,
        **more: Any,
    ) -> None:
        super().__init__(reply, **more)
        self._looks = looks
        self._outcome = outcome
        self._batch_fault = fault
        self._refuse = refuse
        self.stay = stay
        self.batches: list[Sent] = []
        self.files: dict[str, list[dict[str, Any]]] = {}
        self.steps: Counter[str] = Counter()
        """Calls by what they were for."""

    @property
    def requests_sent(self) -> Counter[str]:
        """How often each request was in a batch that began, by its id."""
        return Counter(name for batch in self.batches for name, _ in batch.requests)

    def add_routes(self, app: web.Application) -> None:
        app.router.add_post("/v1/files", self._as("upload", self._upload))
        app.router.add_get("/v1/files/{id}/content", self._as("results", self._content))
        app.router.add_post("/v1/batches", self._as("create", self._create))
        app.router.add_get("/v1/batches", self._as("list", self._list))
        app.router.add_get("/v1/batches/{id}", self._as("look", self._look))
        root = "/v1/messages/batches"
        app.router.add_post(root, self._as("create", self._create_messages))
        app.router.add_get(root, self._as("list", self._list_messages))
        app.router.add_get(root + "/{id}", self._as("look", self._look_messages))
        app.router.add_get(root + "/{id}/results", self._as("results", self._message_results))

    def _as(self, step: str, handle: Callable[[web.Request], Any]) -> Any:
        async def handler(request: web.Request) -> web.StreamResponse:
            fault = self._batch_fault(step, self.steps[step]) or BatchFault()
            self.steps[step] += 1
            own = request.headers.get("x-api-key") or request.headers.get("authorization", "")
            if self._key is not None and own.removeprefix("Bearer ") != self._key:
                fault = BatchFault(401, f"Incorrect API key provided: {own}")
            answer = None
            if fault.after or not (fault.drop or fault.hang or fault.status != 200):
                answer = await handle(request)
            else:
                await request.read()
            if fault.hang:
                await self._stop.wait()
            if fault.drop:
                return await self._cut(request, b"")
            if fault.status != 200 or answer is None:
                error = {"message": fault.message, "type": "api_error"}
                body = {"type": "error", "error": error}
                return web.json_response(body, status=fault.status, headers=fault.headers)
            if isinstance(answer, bytes):
                return await self._send_lines(request, answer, fault)
            return web.json_response(answer)

        return handler

    async def _send_lines(
        self, request: web.Request, content: bytes, fault: BatchFault
    ) -> web.StreamResponse:
        if fault.keep_lines is not None:
            content = b"".join(content.splitlines(keepends=True)[: fault.keep_lines])
        if fault.cut is None:
            return web.Response(body=content)
        response = web.StreamResponse(headers={"Content-Length": str(len(content))})
        await response.prepare(request)
        await response.write(content[: fault.cut])
        await asyncio.sleep(0.05)
        assert request.transport is not None
        request.transport.abort()
        return response

    async def _upload(self, request: web.Request) -> dict[str, Any]:
        form = await request.post()
        assert form["purpose"] == "batch"
        file = form["file"]
        assert isinstance(file, web.FileField)
        lines = file.file.read().decode().splitlines()
        name = f"file-{len(self.files)}"
        self.files[name] = [json.loads(line) for line in lines]
        return {"id": name, "object": "file", "purpose": "batch", "bytes": 1}

    async def _create(self, request: web.Request) -> dict[str, Any]:
        body = await request.json()
        rows = self.files[body["input_file_id"]]
        assert {row["url"] for row in rows} == {body["endpoint"]}
        made = self._begin("batch_", [(row["custom_id"], row["body"]) for row in rows])
        made.metadata, made.endpoint = body["metadata"], body["endpoint"]
        return self._batch(made)

    def _begin(self, prefix: str, requests: list[tuple[str, dict[str, Any]]]) -> Sent:
        assert len({name for name, _ in requests}) == len(requests)
        number = len(self.batches)
        made = Sent(f"{prefix}{number}", requests)
        made.failed = self._refuse(number, len(requests))
        self.batches.append(made)
        return made

    def _find(self, request: web.Request) -> Sent:
        for batch in self.batches:
            if batch.id == request.match_info["id"]:
                return batch
        raise web.HTTPNotFound(text='{"error": {"message": "No such batch"}}')

    def _ended(self, batch: Sent) -> bool:
        return not self.stay and batch.looks >= self._looks

    def _batch(self, batch: Sent) -> dict[str, Any]:
        ended = self._ended(batch)
        done = len(batch.requests) if ended else 0
        status = (batch.state or "completed") if ended else "in_progress"
        files = {"output_file_id": f"out-{batch.id}", "error_file_id": f"err-{batch.id}"}
        if batch.failed:
            code, said = batch.failed
            status, done, files = "failed", 0, {}
            files = {"errors": {"object": "list", "data": [{"code": code, "message": said}]}}
        wrong = sum(self._result(batch, n)[0] != "ok" for n in range(len(batch.requests)))
        return {
            "id": batch.id,
            "object": "batch",
            "status": status,
            "created_at": int(batch.created_s),
            "metadata": batch.metadata,
            "request_counts": {
                "total": len(batch.requests),
                "completed": done - wrong if done else 0,
                "failed": wrong if done else 0,
            },
            **(files if ended or batch.failed else {}),
        }

    async def _look(self, request: web.Request) -> dict[str, Any]:
        batch = self._find(request)
        batch.looks += 1
        return self._batch(batch)

    async def _list(self, request: web.Request) -> dict[str, Any]:
        return self._page(request, "after", self._batch)

    def _page(
        self, request: web.Request, cursor: str, show: Callable[[Sent], dict[str, Any]]
    ) -> dict[str, Any]:
        newest = self.batches[::-1]
        names = [batch.id for batch in newest]
        first = names.index(request.query[cursor]) + 1 if cursor in request.query else 0
        # short pages, so that they are turned
        shown = newest[first : first + 2]
        return {"data": [show(b) for b in shown], "has_more": first + 2 < len(newest)}

    def _result(self, batch: Sent, number: int) -> tuple[str, Outcome]:
        """Whether a request was answered, and what came of it."""
        name, body = batch.requests[number]
        outcome = self._outcome(name, body, self.batches.index(batch))
        failed = isinstance(outcome, tuple) or outcome in {"expired", "cancelled"}
        return ("no" if failed else "ok", outcome)

    async def _content(self, request: web.Request) -> bytes:
        kind, _, name = request.match_info["id"].partition("-")
        [batch] = [b for b in self.batches if b.id == name]
        lines: list[bytes] = [json.dumps({"custom_id": "unknown", "response": None}).encode()]
        for number in reversed(range(len(batch.requests))):
            which, outcome = self._result(batch, number)
            if (which == "ok") != (kind == "out") or outcome == "missing":
                continue
            name, body = batch.requests[number]
            row = {"id": "r", "custom_id": name, "response": None, "error": None}
            if which == "ok":
                make = self._response_answer if "input" in body else self._chat_answer
                row["response"] = {"status_code": 200, "request_id": "q", "body": make(body)}
            elif isinstance(outcome, tuple):
                row["response"] = {"status_code": outcome[0], "body": {"error": outcome[1]}}
            else:
                row["error"] = {"code": f"batch_{outcome}", "message": f"It {outcome}."}
            line = json.dumps(row).encode()
            lines += [line[:30]] if outcome == "garbage" else [line] * (1 + (outcome == "twice"))
        return b"\n".join(lines) + b"\n"

    async def _create_messages(self, request: web.Request) -> dict[str, Any]:
        rows = (await request.json())["requests"]
        return self._message_batch(
            self._begin("msgbatch_", [(row["custom_id"], row["params"]) for row in rows])
        )

    def _message_batch(self, batch: Sent) -> dict[str, Any]:
        ended = self._ended(batch)
        size = len(batch.requests)
        counts = {"processing": 0 if ended else size, "succeeded": size if ended else 0}
        return {
            "id": batch.id,
            "type": "message_batch",
            "processing_status": "ended" if ended else "in_progress",
            "created_at": datetime.fromtimestamp(batch.created_s, UTC).isoformat(),
            "request_counts": {**counts, "errored": 0, "canceled": 0, "expired": 0},
            "results_url": "https://elsewhere.example/results",
        }

    async def _look_messages(self, request: web.Request) -> dict[str, Any]:
        batch = self._find(request)
        batch.looks += 1
        return self._message_batch(batch)

    async def _list_messages(self, request: web.Request) -> dict[str, Any]:
        return self._page(request, "after_id", self._message_batch)

    async def _message_results(self, request: web.Request) -> bytes:
        batch = self._find(request)
        lines = []
        for number in reversed(range(len(batch.requests))):
            name, body = batch.requests[number]
            which, outcome = self._result(batch, number)
            if outcome == "missing":
                continue
            if which == "ok":
                result = {"type": "succeeded", "message": self._message_answer(body)}
            elif isinstance(outcome, tuple):
                result = {"type": "errored", "error": {"type": "error", "error": outcome[1]}}
            else:
                result = {"type": "canceled" if outcome == "cancelled" else "expired"}
            line = json.dumps({"custom_id": name, "result": result}).encode()
            lines += [line[:30]] if outcome == "garbage" else [line] * (1 + (outcome == "twice"))
        return b"\n".join(lines) + b"\n"

"""A real service on a real port, in a thread, judged by a script."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from rlaif.backends.base import BackendOptions
from rlaif.backends.prices import load_prices
from rlaif.service.accounts import TokenBook
from rlaif.service.app import build_app
from rlaif.service.config import JudgeConfig, Limits, RewardConfig, ServiceConfig
from rlaif.service.database import Database
from rlaif.service.guard import Door, hosts_of
from rlaif.service.serving import build_server
from rlaif.service.sessions import Sessions
from rlaif.service.state import Service, open_service

GRADE = {"match": "", "reply": "Mostly right. [[4]]"}
CHOICE = {"match": "", "reply": "The first names the city. [[A]]"}
FAILING = {"match": "rain", "reply": "I would rather not say."}


class Running:
    """A service that listens, and a client of it."""

    def __init__(self, service: Service, url: str, client: httpx.Client) -> None:
        self.service = service
        self.url = url
        self.client = client
        self.tokens = TokenBook(service.database)

    def post(self, path: str, body: Any, **more: Any) -> httpx.Response:
        return self.client.post(path, json=body, **more)

    def get(self, path: str, **more: Any) -> httpx.Response:
        return self.client.get(path, **more)


Serve = Callable[..., Running]


@contextmanager
def listening(
    config: ServiceConfig,
    root: Path,
    *,
    token: bool = False,
    prices: Path | None = None,
    store: Path | None = None,
) -> Iterator[Running]:
    """A service of `config` that listens until the block ends."""
    database = Database(root / "service.sqlite")
    service = open_service(
        config,
        root,
        database,
        load_prices(*([prices] if prices else [])),
        lambda judge: BackendOptions(base_url=judge.base_url, timeout_s=judge.timeout_s, home=root),
        store or root / "replies.sqlite",
    )
    sessions = Sessions(b"x" * 32, service.tokens)
    door = Door(
        hosts_of("127.0.0.1", config.hosts), lambda: not token, service.tokens.caller, sessions
    )
    begun, urls = threading.Event(), []

    def told(url: str) -> None:
        urls.append(url)
        begun.set()

    app = build_app(service, door)
    server = build_server(app, "127.0.0.1", 0, head_s=config.limits.header_s, begun=told)
    thread = threading.Thread(target=asyncio.run, args=(server.serve(),), daemon=True)
    thread.start()
    assert begun.wait(20)
    try:
        with httpx.Client(base_url=urls[0], timeout=20, trust_env=False) as client:
            yield Running(service, urls[0], client)
    finally:
        server.should_exit = True
        thread.join(20)


@pytest.fixture
def script(tmp_path: Path) -> Callable[..., str]:
    """Writes a script file and gives its address."""

    def write(*lines: dict[str, Any], name: str = "script") -> str:
        path = tmp_path / f"{name}.jsonl"
        path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        return f"scripted/{path}"

    return write


@pytest.fixture
def serve(tmp_path: Path, script: Callable[..., str]) -> Iterator[Serve]:
    """Starts services; each ends with the test."""
    with ExitStack() as stack:

        def start(
            *lines: dict[str, Any],
            limits: dict[str, Any] | None = None,
            reward: dict[str, Any] | None = None,
            root: str = "root",
            prices: str | None = None,
            **more: Any,
        ) -> Running:
            address = script(*(lines or (GRADE,)), name=root)
            config = ServiceConfig(
                judges={"default": JudgeConfig(model=address)},
                limits=Limits(**limits or {}),
                reward=RewardConfig(**reward or {}),
                inputs=str(tmp_path / "inputs"),
                rubrics=["helpfulness", "correctness"],
            )
            path = None
            if prices is not None:
                path = tmp_path / "prices.yaml"
                path.write_text(prices.replace("MODEL", address), encoding="utf-8")
            token = more.pop("token", False)
            config = config.model_copy(update=more)
            return stack.enter_context(listening(config, tmp_path / root, token=token, prices=path))

        yield start

"""Certificates and proxies between the three providers over HTTP and their servers."""

from __future__ import annotations

import asyncio
import ssl
import traceback
from pathlib import Path

import pytest

from rlaif.backends._http import Endpoint, transport_error
from rlaif.backends.base import BackendOptions
from rlaif.errors import BackendError, ConfigError
from tests.unit.backends.test_providers import KEY, PROVIDERS, REQUEST, Provider, ask
from tests.wire import WireServer
from tests.wire_net import Proxy, make_certificate

pytestmark = pytest.mark.parametrize("provider", PROVIDERS, ids=lambda p: p.__name__)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_certificate(tmp_path_factory.mktemp("tls"))


def test_a_certificate_that_nobody_vouches_for_is_fatal_and_named(
    provider: Provider, certificate: tuple[Path, Path]
) -> None:
    with (
        WireServer(certificate=certificate) as server,
        pytest.raises(BackendError, match="self-signed certificate") as caught,
    ):
        ask(provider, server)
    assert server.calls == 0
    assert str(caught.value).startswith("the certificate of ")
    assert str(caught.value).endswith("name the file of its authority in SSL_CERT_FILE")
    assert (caught.value.fatal, caught.value.kind) == (True, "connection")


def test_a_certificate_for_another_name_is_fatal(provider: Provider) -> None:
    del provider
    error = ssl.SSLCertVerificationError()
    error.verify_message = ""
    found = transport_error(Endpoint("X", "https://x", "m", "K"), error, 1.0)
    assert found.fatal
    assert "it does not fit the name of the server" in str(found)


def test_http_where_https_is_spoken_is_told(
    provider: Provider, certificate: tuple[Path, Path]
) -> None:
    with WireServer(certificate=certificate) as server, pytest.raises(BackendError) as plain:
        ask(provider, server, url=server.url.replace("https", "http"))
    with WireServer() as server, pytest.raises(BackendError, match="answers no TLS") as caught:
        ask(provider, server, url=server.url.replace("http", "https"))
    assert (plain.value.kind, caught.value.kind) == ("connection", "connection")
    assert caught.value.fatal


def test_a_proxy_never_sees_the_key_of_an_https_call(
    provider: Provider, certificate: tuple[Path, Path]
) -> None:
    async def once(server: WireServer, proxy: str) -> None:
        backend = provider("judge", BackendOptions(KEY, server.url, proxy=proxy))
        try:
            await backend.complete(REQUEST)
        finally:
            await backend.aclose()

    with (
        Proxy() as proxy,
        WireServer(certificate=certificate) as server,
        pytest.raises(BackendError, match="certificate"),
    ):
        asyncio.run(once(server, proxy.url))
    assert proxy.seen[0].startswith("CONNECT 127.0.0.1:")
    assert "Host: " in proxy.seen[0]
    assert KEY not in "".join(proxy.seen)


@pytest.mark.parametrize("secret", ["", "me:s3cret@"])
def test_calls_go_through_the_proxy(provider: Provider, secret: str) -> None:
    async def once(server: WireServer, proxy: str) -> str:
        url = proxy.replace("//", f"//{secret}")
        backend = provider("judge", BackendOptions(KEY, server.url, proxy=url))
        try:
            return (await backend.complete(REQUEST)).text
        finally:
            await backend.aclose()

    with Proxy() as proxy, WireServer() as server:
        assert asyncio.run(once(server, proxy.url)) == "A fixed reply."
        assert len(proxy.seen) == 1
        assert proxy.seen[0].startswith(f"POST {server.url}")
        sent = "Basic bWU6czNjcmV0" if secret else None
        assert server.requests[0].headers.get("proxy-authorization") == sent


def test_a_proxy_that_fails_is_named_without_its_password(provider: Provider) -> None:
    async def once(proxy: str) -> None:
        url = proxy.replace("//", "//me:s3cret@")
        backend = provider("judge", BackendOptions(KEY, "http://localhost:1/v1", proxy=url))
        try:
            await backend.complete(REQUEST)
        finally:
            await backend.aclose()

    with Proxy(refuses=True) as proxy, pytest.raises(BackendError) as refused:
        asyncio.run(once(proxy.url))
    place = proxy.url.removeprefix("http://")
    with pytest.raises(BackendError, match=f"through the proxy {place}") as gone:
        asyncio.run(once(proxy.url))
    for caught in (refused, gone):
        assert "s3cret" not in "".join(traceback.format_exception(caught.value))
    assert gone.value.retryable


@pytest.mark.parametrize("bad", ["socks5://localhost:1", "http://", "http://[", "ftp://x"])
def test_a_proxy_that_cannot_be_one_is_refused(provider: Provider, bad: str) -> None:
    with pytest.raises(ConfigError, match="the proxy is not like http://localhost:8080"):
        provider("judge", BackendOptions(KEY, "http://localhost:1", proxy=bad))

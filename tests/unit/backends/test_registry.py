"""Model addresses: where they lead, and what is said about wrong ones."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from rlaif.backends import registry
from rlaif.backends.base import BackendOptions
from rlaif.backends.registry import (
    PROVIDERS,
    key_variable,
    open_provider,
    proxy_for,
    resolve_options,
    split_address,
)
from rlaif.errors import ConfigError


@pytest.mark.parametrize(
    ("address", "parts"),
    [
        ("openai/gpt-5.1", ("openai", "gpt-5.1")),
        ("server/Qwen/Qwen3-8B", ("server", "Qwen/Qwen3-8B")),
        ("local//models/mine", ("local", "/models/mine")),
        (" scripted/a.jsonl ", ("scripted", "a.jsonl")),
    ],
)
def test_an_address_splits_at_its_first_slash(address: str, parts: tuple[str, str]) -> None:
    assert split_address(address) == parts


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("gpt-5.1", "did you mean openai/gpt-5.1\\?"),
        ("claude-opus-5", "did you mean anthropic/claude-opus-5\\?"),
        ("llama", "write PROVIDER/NAME with one of openai, anthropic, server"),
        ("opena/gpt-5.1", "unknown provider 'opena'.*did you mean 'openai'"),
        ("zzz/x", "unknown provider 'zzz'.*known: anthropic, local"),
        ("openai/", "names no model: write openai/NAME"),
        ("openai", "names no model: write openai/NAME"),
        ("", "names no provider"),
    ],
)
def test_a_wrong_address_is_explained(address: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        split_address(address)


def test_each_hosted_provider_names_the_variable_of_its_key() -> None:
    assert key_variable("openai/x") == "OPENAI_API_KEY"
    assert key_variable("anthropic/x") == "ANTHROPIC_API_KEY"
    assert key_variable("local/x") is None
    with pytest.raises(ConfigError, match="names no provider"):
        key_variable("x")


@pytest.mark.parametrize("provider", ["openai", "anthropic"])
@pytest.mark.parametrize("key", [None, "", " \n"])
def test_a_missing_key_names_the_variable_to_set(provider: str, key: str | None) -> None:
    with pytest.raises(ConfigError, match=f"set {provider.upper()}_API_KEY"):
        open_provider(f"{provider}/x", BackendOptions(api_key=key))


def test_a_server_without_its_address_names_the_option() -> None:
    with pytest.raises(ConfigError, match="--base-url"):
        open_provider("server/x", BackendOptions())


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> object:
        raise ModuleNotFoundError(f"No module named 'torch' ({name})", name="torch")

    monkeypatch.setattr(registry, "import_module", absent)
    with pytest.raises(ConfigError, match=r"not installed \(torch\): pip install 'rlaif\[local\]'"):
        open_provider("local/x", BackendOptions())
    with pytest.raises(ModuleNotFoundError):
        open_provider("scripted/x", BackendOptions())


def test_providers_open_and_close_and_know_their_address(tmp_path: Path) -> None:
    replies = tmp_path / "replies.jsonl"
    replies.write_text('{"reply": "a"}')
    options = BackendOptions(api_key="k" * 20, base_url="http://localhost:1/v1")

    async def open_and_close(address: str) -> str:
        backend = open_provider(address, options)
        await backend.aclose()
        await backend.aclose()
        assert "kkk" not in backend.identity
        return backend.model

    for address in ("openai/m", "anthropic/m", "server/m", f"scripted/{replies}"):
        assert asyncio.run(open_and_close(address)) == address


def test_every_opener_exists() -> None:
    for provider in PROVIDERS.values():
        module, _, function = provider.opener.partition(":")
        if provider.extra is None:
            assert callable(getattr(import_module(module), function))


def test_importing_the_backends_loads_no_sdk() -> None:
    modules = ["registry", "openai", "anthropic", "server", "scripted", "retrying", "limited"]
    code = "import sys\n" + "".join(f"import rlaif.backends.{m}\n" for m in modules)
    code += "print(*{'openai', 'anthropic', 'aiohttp', 'httpx2', 'pydantic'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


KEYS = {"OPENAI_API_KEY": "sk-1", "ANTHROPIC_API_KEY": "sk-2", "RLAIF_SERVER_API_KEY": "sk-3"}
AZURE = {"AZURE_OPENAI_ENDPOINT": "https://x.openai.azure.com", "AZURE_OPENAI_API_KEY": "az"}


@pytest.mark.parametrize(
    ("address", "key"),
    [("openai/x", "sk-1"), ("anthropic/x", "sk-2"), ("server/x", "sk-3"), ("local/x", None)],
)
def test_each_provider_gets_its_own_key_only(address: str, key: str | None) -> None:
    assert resolve_options(address, KEYS | AZURE).api_key == key


def test_a_base_url_that_is_given_comes_before_the_environments() -> None:
    environ = {"OPENAI_BASE_URL": "http://a/v1", "ANTHROPIC_BASE_URL": "http://b"}
    assert resolve_options("openai/x", environ).base_url == "http://a/v1"
    assert resolve_options("anthropic/x", environ).base_url == "http://b"
    assert resolve_options("openai/x", environ, base_url="http://c").base_url == "http://c"
    assert resolve_options("server/x", environ).base_url is None


@pytest.mark.parametrize(
    ("more", "base_url", "azure"),
    [
        ({}, None, True),
        ({"OPENAI_API_KEY": "sk-1"}, None, False),
        ({"OPENAI_API_KEY": "sk-1", "OPENAI_API_TYPE": "azure"}, None, True),
        ({"OPENAI_BASE_URL": "http://a"}, None, False),
        ({}, "http://a", False),
        ({"AZURE_OPENAI_ENDPOINT": ""}, None, False),
    ],
)
def test_azure_is_chosen_by_the_environment(
    more: dict[str, str], base_url: str | None, azure: bool
) -> None:
    environ = AZURE | {"OPENAI_API_VERSION": "2024-10-21"} | more
    found = resolve_options("openai/x", environ, base_url=base_url)
    assert found.azure == azure
    if azure:
        assert (found.api_key, found.base_url) == ("az", AZURE["AZURE_OPENAI_ENDPOINT"])
        assert found.api_version == "2024-10-21"
    else:
        assert found.api_version is None
    assert not resolve_options("anthropic/x", environ).azure


def test_azure_without_its_key_names_the_variable() -> None:
    options = resolve_options("openai/x", {"AZURE_OPENAI_ENDPOINT": "https://x.azure.com"})
    with pytest.raises(ConfigError, match="set AZURE_OPENAI_API_KEY"):
        open_provider("openai/x", options)


@pytest.mark.parametrize(
    ("environ", "url", "proxy"),
    [
        ({}, "https://a.org/v1", None),
        ({"HTTPS_PROXY": "http://p:1"}, "https://a.org/v1", "http://p:1"),
        ({"HTTPS_PROXY": "http://p:1"}, "http://a.org/v1", None),
        ({"HTTP_PROXY": "http://p:1"}, "http://a.org/v1", "http://p:1"),
        ({"ALL_PROXY": "http://p:1"}, "http://a.org", "http://p:1"),
        ({"all_proxy": "p:1"}, "a.org:80/v1", "p:1"),
        ({"https_proxy": "low", "HTTPS_PROXY": "up"}, "https://a.org", "low"),
        ({"https_proxy": "", "HTTPS_PROXY": "up"}, "https://a.org", "up"),
        ({"ALL_PROXY": "p", "NO_PROXY": "b.org, a.org"}, "https://a.org/v1", None),
        ({"ALL_PROXY": "p", "NO_PROXY": "a.org"}, "https://api.a.org/v1", None),
        ({"ALL_PROXY": "p", "NO_PROXY": ".a.org"}, "https://api.a.org/v1", None),
        ({"ALL_PROXY": "p", "NO_PROXY": "a.org"}, "https://bada.org/v1", "p"),
        ({"ALL_PROXY": "p", "NO_PROXY": "a.org:99"}, "https://a.org/v1", "p"),
        ({"ALL_PROXY": "p", "NO_PROXY": "a.org:99"}, "https://a.org:99/v1", None),
        ({"ALL_PROXY": "p", "no_proxy": "*"}, "https://a.org/v1", None),
        ({"ALL_PROXY": "p", "NO_PROXY": "localhost,127.0.0.1"}, "http://127.0.0.1:8/v1", None),
        ({"ALL_PROXY": "p"}, "", None),
    ],
)
def test_the_proxy_of_the_environment(environ: dict[str, str], url: str, proxy: str | None) -> None:
    assert proxy_for(url, environ) == proxy


def test_the_proxy_goes_by_the_providers_address() -> None:
    environ = {"HTTPS_PROXY": "http://p:1"}
    for address in ("openai/x", "anthropic/x"):
        assert resolve_options(address, environ).proxy == "http://p:1"
    assert resolve_options("server/x", environ, base_url="http://a/v1").proxy is None
    assert resolve_options("local/x", environ).proxy is None


def test_options_never_show_a_key_or_a_proxys_password() -> None:
    environ = {"OPENAI_API_KEY": "sk-1", "HTTPS_PROXY": "http://me:s3cret@p:1"}
    shown = repr(resolve_options("openai/x", environ))
    assert "sk-1" not in shown
    assert "s3cret" not in shown

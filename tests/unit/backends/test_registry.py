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
from rlaif.backends.registry import PROVIDERS, key_variable, open_provider, split_address
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

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from rlaif.backends._reading_plan import Path as Ids  # noqa: E402
from rlaif.backends.prefill import Prefill, read_plain, supported  # noqa: E402


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32).eval()


def _tree(seed: int = 0) -> list[Ids]:
    """Sequences in three levels of prefixes, the shortest of one token, in no order."""
    chance = random.Random(seed)

    def tokens(n: int) -> Ids:
        return tuple(chance.randrange(250) for _ in range(n))

    start, paths = tokens(40), [tokens(1)]
    for n in (3, 30, 90):
        prompt = start + tokens(n)
        paths += [prompt + tokens(m) for m in (1, 2, 50)] + [prompt]
    chance.shuffle(paths)
    return paths


def _nodes(paths: list[Ids]) -> int:
    return len({path[:n] for path in paths for n in range(1, len(path) + 1)})


def test_reading_together_is_reading_one_by_one(model: Any) -> None:
    paths = _tree()
    prefill = Prefill(model)
    found = prefill.read(paths)
    assert torch.allclose(found, read_plain(model, paths), atol=1e-5)
    assert prefill.tokens_read == _nodes(paths) < sum(map(len, paths)) / 2
    again = prefill.read(paths[::-1]).flip(0)
    assert torch.allclose(again, found, atol=1e-6)


def test_what_was_read_before_is_not_read_again(model: Any) -> None:
    prefill, first = Prefill(model), tuple(range(1, 60))
    prefill.read([first])
    assert prefill.tokens_read == 59
    longer = (*range(1, 50), 7, 8)
    found = prefill.read([longer])
    assert prefill.tokens_read == 59 + 2
    assert torch.allclose(found, read_plain(model, [longer]), atol=1e-5)
    prefill.forget()
    prefill.read([first])
    assert prefill.tokens_read == 61 + 59


def test_two_beginnings_that_take_turns_are_both_kept(model: Any) -> None:
    prefill, start = Prefill(model), tuple(range(1, 9))
    one, other = start + (3,) * 60, start + (4,) * 60
    for path in (one, other):
        prefill.read([path])
    before = prefill.tokens_read
    assert before == 8 + 60 + 60
    paths = [(*one, 9), (*other, 9), (*one, 7)]
    found = prefill.read(paths)
    assert prefill.tokens_read == before + 3
    assert torch.allclose(found, read_plain(model, paths), atol=1e-5)


def test_more_beginnings_than_are_kept(model: Any) -> None:
    prefill = Prefill(model)
    paths = [(n,) * (20 + n) for n in range(1, 7)]
    for path in paths + paths[:1]:
        assert torch.allclose(prefill.read([path]), read_plain(model, [path]), atol=1e-5)


def test_a_longer_sequence_finds_room(model: Any) -> None:
    prefill, short, long = Prefill(model), tuple(range(100)), tuple(range(100)) * 6
    prefill.read([short])
    assert torch.allclose(prefill.read([long]), read_plain(model, [long]), atol=1e-5)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000), st.integers(0, 12))
def test_what_else_is_read_hardly_touches_a_result(model: Any, seed: int, place: int) -> None:
    paths = _tree(seed)
    together = Prefill(model).read(paths)[place]
    alone = Prefill(model).read([paths[place]])[0]
    assert torch.allclose(together, alone, atol=1e-6)


def test_equal_paths_are_read_once(model: Any) -> None:
    prefill = Prefill(model)
    one, same = prefill.read([(5, 6), (5, 6)])
    assert prefill.tokens_read == 2
    assert torch.equal(one, same)


@pytest.mark.parametrize("read", [lambda m, p: Prefill(m).read(p), read_plain])
def test_an_empty_path_is_refused(model: Any, read: Any) -> None:
    with pytest.raises(ValueError, match="at least one token"):
        read(model, [(1,), ()])


def test_reading_can_be_stopped_and_forgets_what_is_half_read(model: Any) -> None:
    prefill = Prefill(model)
    with pytest.raises(InterruptedError):
        prefill.read([(1, 2, 3)], lambda: True)
    with pytest.raises(InterruptedError):
        read_plain(model, [(1, 2, 3)], lambda: True)
    found = prefill.read([(1, 2, 3)])
    assert torch.allclose(found, read_plain(model, [(1, 2, 3)]), atol=1e-5)


def test_the_models_own_attention_is_put_back(model: Any) -> None:
    before = model.config._attn_implementation
    Prefill(model).read([(1, 2)])
    assert model.config._attn_implementation == before


def _made(kind: str, **more: Any) -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM

    sizes = {
        "vocab_size": 300,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
    }
    torch.manual_seed(1)
    config = AutoConfig.for_model(kind, **sizes, **more)
    return AutoModelForCausalLM.from_config(config).float().eval()


def test_a_sliding_window_is_kept() -> None:
    model = _made("mistral", sliding_window=16)
    paths = _tree()
    assert supported(model)
    assert torch.allclose(Prefill(model).read(paths), read_plain(model, paths), atol=1e-5)


@pytest.mark.parametrize(
    "model",
    [
        ("gemma2", {"attn_logit_softcapping": 5.0}),
        ("llama", {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}}),
    ],
    ids=lambda model: model[0],
)
def test_other_kinds_of_attention_are_left_alone(model: tuple[str, dict[str, Any]]) -> None:
    assert not supported(_made(model[0], **model[1]))


def test_plain_attention_is_taken(model: Any) -> None:
    assert supported(model)
    assert supported(_made("qwen2"))

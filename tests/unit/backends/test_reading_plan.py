from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rlaif.backends._reading_plan import BLOCK, Path, common, divide, packs, plan

path_of = st.lists(st.integers(0, 2), min_size=1, max_size=6).map(tuple)
paths_of = st.lists(path_of, min_size=1, unique=True)
held_of = st.lists(st.lists(st.integers(0, 2), max_size=6).map(tuple), min_size=4, max_size=4)


def _nodes(paths: list[Path]) -> set[Path]:
    return {path[:n] for path in paths for n in range(1, len(path) + 1)}


@given(paths_of, st.lists(st.integers(0, 2), max_size=6).map(tuple))
def test_a_plan_reads_every_path_behind_what_is_held(paths: list[Path], held: Path) -> None:
    blocks, after = plan(paths, held)
    ends = {}
    for block in blocks:
        assert len(held) >= block.depth
        held = held[: block.depth] + block.tokens
        if block.path is not None:
            ends[block.path] = held
    assert held == after
    assert ends == dict(enumerate(paths))


@given(paths_of)
def test_a_plan_reads_what_is_shared_once(paths: list[Path]) -> None:
    blocks, _ = plan(paths, ())
    assert sum(len(block.tokens) for block in blocks) == len(_nodes(paths))


def test_a_long_path_is_read_in_parts() -> None:
    blocks, _ = plan([tuple(range(2 * BLOCK + 9))], ())
    assert [block.path for block in blocks] == [None, None, 0]
    assert [block.depth for block in blocks] == [0, BLOCK, 2 * BLOCK]


@given(paths_of, held_of)
def test_every_path_is_read_on_one_trunk_and_nothing_twice(
    paths: list[Path], held: list[Path]
) -> None:
    shares = divide(paths, held)
    assert sorted(i for share in shares for i in share.places) == list(range(len(paths)))
    assert len({share.trunk for share in shares}) == len(shares)
    sources = {share.source for share in shares}
    assert all(share.trunk == share.source or share.trunk not in sources for share in shares)
    read = 0
    for share in shares:
        start = held[share.source][: share.kept]
        blocks, _ = plan([paths[i] for i in share.places], start, trunk=share.trunk)
        assert {block.trunk for block in blocks} == {share.trunk}
        read += sum(len(block.tokens) for block in blocks)
    known = _nodes(held)
    ends = sum(path in known for path in paths)  # their last token is read all the same
    assert read <= len(_nodes(paths) - known) + ends


def test_two_rubrics_that_take_turns_keep_a_trunk_each() -> None:
    one, other = tuple(range(100)), (*range(10), *range(500, 590))
    first = divide([(*one, 1), (*one, 2)], [(*other, 3), (), ()])
    assert [(s.trunk, s.source, s.kept, s.places) for s in first] == [(2, 0, 10, [0, 1])]
    held = [(*one, 2), (*other, 3), ()]
    both = divide([(*other, 7), (*one, 9)], held)
    assert [(s.trunk, s.source, s.places) for s in both] == [(0, 0, [1]), (1, 1, [0])]


def test_the_trunk_used_longest_ago_gives_way() -> None:
    held = [tuple(range(n, n + 50)) for n in (0, 100, 200)]
    (share,) = divide([tuple(range(300, 350))], held)
    assert (share.trunk, share.kept) == (2, 0)
    kept = divide([tuple(range(300, 350)), tuple(range(200, 260))], held)
    assert {(s.trunk, tuple(s.places)) for s in kept} == {(1, (0,)), (2, (1,))}


@given(paths_of)
def test_packs_are_the_blocks_in_order(paths: list[Path]) -> None:
    blocks, _ = plan(paths, ())
    assert [block for pack in packs(blocks) for block in pack] == blocks


def test_a_pack_ends_before_it_grows_too_long() -> None:
    blocks, _ = plan([tuple(range(3000))], ())
    sizes = [sum(len(block.tokens) for block in pack) for pack in packs(blocks)]
    assert sizes == [1024, 1024, 952]


@given(path_of, path_of)
def test_what_is_common_is_the_longest_shared_beginning(one: Path, other: Path) -> None:
    n = common(one, other)
    assert one[:n] == other[:n]
    assert n == min(len(one), len(other)) or one[n] != other[n]

"""How the number of calls in flight follows what an endpoint refuses."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rlaif.backends._window import Window


class Rounds:
    """Drives a window with whole rounds of calls."""

    def __init__(self, window: Window) -> None:
        self.window = window
        self.sent = 0
        self.now = 0.0

    def round(self, bears: int, cost_s: float = 0.2) -> int:
        """Send as many calls as are allowed, of which `bears` succeed; how many were refused."""
        first, calls = self.sent + 1, self.window.allowed
        self.sent += calls
        self.now += 0.2
        refused = max(0, calls - bears)
        for i in range(calls):
            left = calls - i
            # refusals come back before replies
            if i < refused:
                self.window.troubled(
                    first + bears + i, self.now, left, self.sent, refused=True, cost_s=cost_s
                )
            else:
                self.window.succeeded(first + i - refused, self.now, left)
        return refused


def test_it_doubles_with_each_round_until_the_first_trouble() -> None:
    window, number = Window(16, 1024), 0
    for allowed in (16, 32, 64, 128, 256, 512, 1024, 1024):
        assert window.allowed == allowed
        for _ in range(allowed):
            number += 1
            window.succeeded(number, 0.0, window.allowed)


def test_a_window_that_is_not_filled_does_not_grow() -> None:
    window = Window(16, 1024)
    for number in range(1, 1000):
        window.succeeded(number, 0.0, 7)
    assert window.allowed == 16


def test_a_number_that_was_given_is_where_it_starts() -> None:
    rounds = Rounds(Window(300, 300))
    rounds.round(bears=5000)
    assert rounds.window.allowed == 300


def test_a_limit_far_below_is_found_in_one_round() -> None:
    rounds = Rounds(Window(1024, 1024))
    assert rounds.round(bears=40) == 984
    assert 36 <= rounds.window.allowed <= 42


def test_a_round_cuts_once() -> None:
    window = Window(100, 100)
    for number in (3, 5, 8):
        assert window.troubled(number, 1.0, 100, 100, refused=True, cost_s=0.2)
    assert window.allowed == 80
    assert window.troubled(101, 2.0, 80, 180, refused=True, cost_s=0.2)
    assert window.allowed == 64


def test_calls_that_never_ended_take_no_further_places() -> None:
    window = Window(10, 10)
    for number in range(1, 11):
        window.troubled(number, 1.0, 11 - number, 10, refused=False, cost_s=1.0)
    assert window.allowed == 8


def test_a_limit_is_approached_and_seldom_touched() -> None:
    rounds = Rounds(Window(32, 1024))
    for _ in range(20):
        rounds.round(bears=40)
    refused, sizes = 0, []
    for _ in range(500):
        sizes.append(rounds.window.allowed)
        refused += rounds.round(bears=40)
    assert sum(min(40, size) for size in sizes) >= 0.9 * 40 * 500
    assert refused < 0.01 * 40 * 500


def test_a_limit_that_went_away_is_forgotten() -> None:
    rounds = Rounds(Window(256, 256))
    for _ in range(20):
        rounds.round(bears=20)
    assert rounds.window.allowed <= 22
    for _ in range(300):
        rounds.round(bears=5000)
    assert rounds.window.allowed == 256


def test_after_an_outage_it_is_soon_where_it_was() -> None:
    rounds = Rounds(Window(200, 200))
    rounds.round(bears=5000)
    for _ in range(10):
        rounds.round(bears=0)
    assert rounds.window.size < 1
    for _ in range(40):
        rounds.round(bears=5000)
    assert rounds.window.allowed >= 160


def test_a_first_call_that_is_refused_says_little_about_many() -> None:
    window = Window(256, 256)
    window.troubled(1, 0.0, 1, 1, refused=True, cost_s=1.0)
    assert window.allowed == 1
    rounds = Rounds(window)
    rounds.sent = 1
    for _ in range(40):
        rounds.round(bears=5000)
    assert window.allowed >= 200


def test_refusals_that_have_nothing_to_do_with_the_load_stop_counting() -> None:
    window, sent, obeyed = Window(64, 64), 0, 0
    for _ in range(400):
        first, calls = sent + 1, window.allowed
        sent += calls
        for i in range(calls):
            if (first + i) % 17 == 0:
                obeyed += window.troubled(first + i, 0.0, calls - i, sent, refused=True, cost_s=0.0)
            else:
                window.succeeded(first + i, 0.0, calls - i)
    assert window.lenient
    assert window.allowed == 64
    assert obeyed < 20


def test_refusals_that_it_was_wrong_to_let_pass_count_again() -> None:
    window = Window(8, 8)
    number = 0
    while not window.lenient:
        for _ in range(10):
            number += 1
            window.succeeded(number, 0.0, 8)
        number += 1
        window.troubled(number, 0.0, 8, number, refused=True, cost_s=0.0)
    let_pass = 0
    while window.lenient:
        number += 1
        let_pass += not window.troubled(number, 0.0, 8, number, refused=True, cost_s=0.0)
    assert let_pass < 20
    assert window.allowed < 8


@given(
    most=st.integers(1, 300),
    steps=st.lists(st.tuples(st.integers(0, 400), st.floats(0, 30)), max_size=30),
)
def test_it_stays_between_one_and_the_bound(most: int, steps: list[tuple[int, float]]) -> None:
    rounds = Rounds(Window(min(32, most), most))
    for bears, cost_s in steps:
        rounds.round(bears, cost_s)
        assert 1 <= rounds.window.allowed <= most
        assert 0.05 <= rounds.window.size <= most

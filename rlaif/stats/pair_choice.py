"""Which pair to compare next, and when the order is settled: rankings from few comparisons.

    import numpy as np
    from rlaif.stats.pair_choice import Standing

    standing = Standing(4)
    standing.add(0, 1, 0.9)                 # P(0 preferred to 1), soft or 0, 0.5, 1
    standing.add(2, 3, 0.2)
    i, j = standing.choose(1, np.random.default_rng(0))[0]
    assert {i, j} not in ({0, 1}, {2, 3})   # no pair is asked twice

The strengths have a Gaussian prior and a Bradley-Terry likelihood; their posterior is approximated
at its mode (Laplace). A round robin has finitely many pairs, so what matters is the order that it
would end with: the row sums of its table, of which the pairs already asked are known, and the
others are forecast with their uncertainty. Asked are the pairs that are expected to remove most of
the doubt, over all pairs that an answer tells about: w (1 - w) for a chance w of misordering. To
lower w itself would pay for making two even candidates a little less even, over and over; doubt
falls when an order becomes certain, and the whole order takes fewer comparisons.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rlaif.errors import DataError
from rlaif.stats.numeric import sigmoid

Floats = NDArray[np.float64]
Whole = NDArray[np.intp]
Settle = str
"""Which part of an order is wanted: `all`, or `topK` for which the best K are (`top1`, `top3`)."""
Pair = tuple[int, int]

PRIOR_VARIANCE = 9.0
"""Of a strength, nats squared: wide beside what judges give, so it decides little."""
DISPERSION = 0.1
"""Variance of an outcome over that of a coin of the same mean, as first presumed: soft p(A) of
both orders scatter less than coins do."""
_PRESUMED = 4.0
"""Comparisons that the presumed dispersion counts for beside those seen."""
_LEAST_VARIANCE = 0.02
"""Of a coin that nearly always falls one way, where outcomes are held against it."""
_SHORTLIST = 48
"""Pairs whose gain is computed in full: those whose order is least sure."""
_NOTHING = 1e-9
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(7)
_WEIGHTS = _WEIGHTS / _WEIGHTS.sum()


class Standing:
    """What comparisons so far say of n strengths.

    Args:
        n: Candidates, 2 or more.
        prior_variance: Of each strength before any comparison, nats squared.

    Raises:
        DataError: `n` is below 2 or the variance is not positive.

    Reference:
        Bradley and Terry 1952, Biometrika 39(3/4); overdispersion as in McCullagh and Nelder 1989,
        "Generalized Linear Models", section 4.5; expected loss of a rank-one observation as in
        Frazier, Powell and Dayanik 2009, "The knowledge-gradient policy for correlated normal
        beliefs", INFORMS J. Comput. 21(4).
    """

    def __init__(self, n: int, *, prior_variance: float = PRIOR_VARIANCE) -> None:
        if n < 2:
            raise DataError(f"{n} candidates make no pair")
        if not 0 < prior_variance < np.inf:
            raise DataError(f"the prior variance is {prior_variance}, not positive")
        self.n = n
        self._prior = prior_variance
        self._first, self._second = np.triu_indices(n, 1)
        self._met = np.zeros((n, n))
        self._won = np.zeros((n, n))
        self._void = np.zeros((n, n), dtype=bool)
        self._strengths = np.zeros(n)
        self._covariance = prior_variance * np.eye(n)
        self._dispersion = DISPERSION
        self._stale = False

    def add(self, i: int, j: int, p: float | None) -> None:
        """Take in the outcome of one comparison.

        Args:
            i: One candidate.
            j: The other.
            p: P(i preferred) in [0, 1]; `None` where there is no verdict: such a pair is not asked
                again and is no outcome.

        Raises:
            DataError: the indices name no pair, it was asked before, or `p` is no probability.
        """
        if not (0 <= i < self.n and 0 <= j < self.n) or i == j:
            raise DataError(f"{i} and {j} are no pair among {self.n}")
        if self._met[i, j] or self._void[i, j]:
            raise DataError(f"the pair {i}, {j} was asked before")
        if p is None:
            self._void[i, j] = self._void[j, i] = True
            return
        if not 0 <= p <= 1:
            raise DataError(f"{p} is no probability")
        self._met[i, j] = self._met[j, i] = 1.0
        self._won[i, j], self._won[j, i] = p, 1.0 - p
        self._stale = True

    @property
    def strengths(self) -> Floats:
        """Shape (n,), nats, mean zero."""
        self._refresh()
        return np.asarray(self._strengths - self._strengths.mean())

    @property
    def covariance(self) -> Floats:
        """Shape (n, n), nats squared, of the strengths about their mean."""
        self._refresh()
        centered = self._covariance - self._covariance.mean(axis=0)
        return np.asarray(centered - centered.mean(axis=1, keepdims=True))

    @property
    def dispersion(self) -> float:
        """Variance of an outcome over that of a coin: 1 for coins, 0 for a table without noise."""
        self._refresh()
        return self._dispersion

    @property
    def wins(self) -> Floats:
        """Shape (n, n): P(row preferred to column) of each pair with an outcome, else 0."""
        return self._won.copy()

    @property
    def met(self) -> NDArray[np.bool_]:
        """Shape (n, n): which pairs have an outcome."""
        return self._met > 0

    @property
    def groups(self) -> Whole:
        """Shape (n,): candidates with the same number are joined by outcomes."""
        from scipy.sparse.csgraph import connected_components

        return np.asarray(connected_components(self._met, directed=False)[1], dtype=np.intp)

    def order(self) -> Whole:
        """Candidates, best first; equal strengths by their number."""
        return np.argsort(-np.round(self.strengths, 9), kind="stable")

    def choose(self, count: int, rng: np.random.Generator) -> list[Pair]:
        """The pairs to ask next: at most `count`, no candidate in two of them.

        Args:
            count: Most pairs.
            rng: Draws the first round, and among pairs that promise the same.
        """
        left = np.flatnonzero(~self._asked()[self._first, self._second])
        if left.size == 0:
            return []
        if not self._met.any():
            promise = rng.random(left.size)
        else:
            left, promise = self._promises(left)
            promise = promise * (1 + 1e-6 * rng.random(left.size))
        chosen: list[Pair] = []
        taken: set[int] = set()
        for at in left[np.argsort(-promise)]:
            i, j = int(self._first[at]), int(self._second[at])
            if len(chosen) == count:
                break
            if i not in taken and j not in taken:
                chosen.append((i, j))
                taken |= {i, j}
        return chosen

    def risk(self, settle: Settle = "all") -> float:
        """At most this likely is the wanted order not that of the whole round robin, in [0, 1].

        The sum over the pairs that matter of the chance that the pairs not yet asked turn them
        round (Bonferroni): neighbors for `all`, each of the best K against each other one for
        `topK`. 0 once every pair was asked.

        Raises:
            DataError: `settle` is unknown, or K is not below n.
        """
        wanted = top(settle, self.n)
        mean, covariance = self._forecast()
        order = np.argsort(-mean, kind="stable")
        if wanted is None:
            above, below = order[:-1], order[1:]
        else:
            above = np.repeat(order[:wanted], self.n - wanted)
            below = np.tile(order[wanted:], wanted)
        variance = _variance(covariance, above, below)
        return float(min(1.0, _misordered(mean[above] - mean[below], variance).sum()))

    def _asked(self) -> NDArray[np.bool_]:
        return (self._met > 0) | self._void

    def _refresh(self) -> None:
        if self._stale:
            self._fit(DISPERSION)
            self._dispersion = self._pearson()
            self._fit(self._dispersion)
            self._stale = False

    def _fit(self, dispersion: float) -> None:
        """Mode and curvature by Newton's method, from where the last fit ended."""
        trials = 1.0 / dispersion
        s: Floats = self._strengths
        for _ in range(50):
            p = sigmoid(s[:, None] - s[None, :])
            gradient = trials * (self._won - self._met * p).sum(axis=1) - s / self._prior
            w = trials * self._met * np.maximum(p * (1 - p), _LEAST_VARIANCE)
            information = np.diag(w.sum(axis=1) + 1.0 / self._prior) - w
            step = np.clip(np.linalg.solve(information, gradient), -2.0, 2.0)
            s = np.asarray(s + step, dtype=np.float64)
            if np.abs(step).max() < 1e-9:
                break
        self._strengths = s
        self._covariance = np.asarray(np.linalg.inv(information), dtype=np.float64)

    def _pearson(self) -> float:
        """The dispersion by the residuals of the last fit, drawn to what is presumed."""
        s = self._strengths
        seen = np.triu(self._met) > 0
        extra = seen.sum() - (self.n - 1)
        if extra <= 0:
            return DISPERSION
        p = sigmoid(s[:, None] - s[None, :])
        ratio = (self._won - p) ** 2 / np.maximum(p * (1 - p), _LEAST_VARIANCE)
        total = float(ratio[seen].sum()) + _PRESUMED * DISPERSION
        return float(np.clip(total / (extra + _PRESUMED), 0.02, 1.0))

    def _open(self) -> Floats:
        """Shape (n, n): p (1 - p) of the pairs not yet asked, else 0."""
        s = self._strengths
        p = sigmoid(s[:, None] - s[None, :])
        unasked = ~self._asked()
        np.fill_diagonal(unasked, False)
        return np.where(unasked, p * (1 - p), 0.0)

    def _forecast(self) -> tuple[Floats, Floats]:
        """Row sums that the whole round robin would have: their mean and covariance."""
        self._refresh()
        s = self._strengths
        p = sigmoid(s[:, None] - s[None, :])
        mean = np.where(self._met > 0, self._won, p).sum(axis=1)
        still = self._open()
        pull = _laplacian(still)
        noise = _laplacian(self._dispersion * still)
        return mean, np.asarray(pull @ self._covariance @ pull + noise)

    def _promises(self, left: Whole) -> tuple[Whole, Floats]:
        """The shortlist of the pairs left, and by how much each lowers the expected doubt.

        Asking pair a = (i, j) tells s_i - s_j with the noise of one outcome; the covariance then
        loses a rank-one part, by which the forecast of every other pair will move.
        """
        mean, covariance = self._forecast()
        first, second = self._first, self._second
        gap = mean[first] - mean[second]
        variance = _variance(covariance, first, second)
        wrong = _misordered(gap, variance)
        doubt = (wrong * np.sqrt(variance))[left]
        left = left[np.argsort(-doubt, kind="stable")[:_SHORTLIST]]
        i, j = first[left], second[left]
        still = self._open()
        x = np.zeros((self.n, left.size))
        x[i, np.arange(left.size)], x[j, np.arange(left.size)] = 1.0, -1.0
        information = np.maximum(still[i, j], _NOTHING)
        noise = self._dispersion / information  # of an outcome, in nats squared
        told = _laplacian(still) @ self._covariance @ x + x * self._dispersion
        total = _variance(self._covariance, i, j) + noise
        moved = (told[first] - told[second]) ** 2 / total
        moved = np.minimum(moved, variance[:, None] * (1 - _NOTHING))
        after = np.zeros_like(moved)
        for node, weight in zip(_NODES, _WEIGHTS, strict=True):
            shifted = gap[:, None] + np.sqrt(moved) * node
            after += weight * _doubt(_misordered(shifted, variance[:, None] - moved))
        return left, np.asarray(_doubt(wrong).sum() - after.sum(axis=0))


def top(settle: Settle, n: int) -> int | None:
    """K of `topK`, or None for `all`.

    Raises:
        DataError: `settle` is neither, or K is not below n.
    """
    if settle == "all":
        return None
    digits = settle.removeprefix("top")
    if digits == settle or not (digits.isascii() and digits.isdigit()) or int(digits) < 1:
        raise DataError(f"settle is 'all' or 'topK' with a number K, not {settle!r}")
    if int(digits) >= n:
        raise DataError(f"settle is {settle!r}, and there are {n} candidates")
    return int(digits)


def _laplacian(weights: Floats) -> Floats:
    return np.asarray(np.diag(weights.sum(axis=1)) - weights)


def _variance(covariance: Floats, i: Whole, j: Whole) -> Floats:
    """Of the differences i - j, never below 0."""
    found = covariance[i, i] + covariance[j, j] - 2 * covariance[i, j]
    return np.asarray(np.maximum(found, 0.0))


def _misordered(gap: Floats, variance: Floats) -> Floats:
    """The chance that a difference has the other sign; 0 where it is known."""
    from scipy.special import ndtr

    known = variance <= _NOTHING
    return np.where(known, 0.0, ndtr(-np.abs(gap) / np.sqrt(np.where(known, 1.0, variance))))


def _doubt(wrong: Floats) -> Floats:
    """The variance of who is ahead, from the chance that it is the other one."""
    return np.asarray(wrong * (1.0 - wrong))

r"""How long and how marked up a response is, and strengths of models with that taken out.

    from rlaif.stats.style import count_style, fit_style_control, style_differences

    plain, fancy = count_style("Paris."), count_style("# Answer\n\n- **Paris**\n- not Lyon")
    assert (fancy.headers, fancy.lists, fancy.bold, plain.headers) == (1, 2, 1, 0)
    assert style_differences([fancy], [plain]).shape == (1, 4)

Reference:
    Li et al. 2024, "From crowdsourced data to high-quality benchmarks: Arena-Hard and
    BenchBuilder" (2406.11939), style control as in its released tool.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rlaif.errors import DataError
from rlaif.stats.bradley_terry import BradleyTerryFit, fit_bradley_terry
from rlaif.stats.clusters import Prompts

Floats = NDArray[np.float64]

FEATURES = ("length", "headers", "lists", "bold")
"""Names of the columns of `style_differences`."""

_FENCE = re.compile(r"^[ \t]*(`{3,}|~{3,}).*?(?:^[ \t]*\1|\Z)", re.MULTILINE | re.DOTALL)
_HEADER = re.compile(r"^#{1,6}\s", re.MULTILINE)
_LIST = re.compile(r"^[ \t]*(?:\d+\.|[-*+])\s", re.MULTILINE)
_BOLD = re.compile(r"\*\*[^*\n]+\*\*|__[^_\n]+__")
_TOKEN = re.compile(r"\w{1,6}|[^\w\s]")


@dataclass(frozen=True, slots=True)
class StyleCounts:
    """What style control looks at in one response."""

    tokens: int
    headers: int
    lists: int
    """List items."""
    bold: int
    """Bold spans."""


@dataclass(frozen=True, slots=True, eq=False)
class StyleControlled:
    """Strengths with style taken out, and what style was worth."""

    fit: BradleyTerryFit
    """`fit.strengths` compare models at the style difference where each feature is 0."""
    features: tuple[str, ...]
    coefficients: Floats
    """Shape (n_features,), nats per standard deviation of each feature."""
    se: Floats
    """Shape (n_features,), standard errors of `coefficients`."""
    centers: Floats
    """Shape (n_features,): what was subtracted from each feature."""
    scales: Floats
    """Shape (n_features,): what each feature was divided by."""

    def win_rate(self, model: int, other: int) -> float:
        """P(model beats other) with style taken out, in [0, 1]."""
        value, _ = self.fit.difference(model, other)
        return float(1 / (1 + np.exp(-value)))


def count_tokens(text: str) -> int:
    """About how many tokens a model's tokenizer would find, without one.

    Pieces of up to six letters or digits, and each other visible character by itself. Style
    control only looks at ratios of these counts, where the tokenizer hardly matters; give
    `StyleCounts` the counts of a real tokenizer where they are at hand.
    """
    return sum(1 for _ in _TOKEN.finditer(text))


def count_style(text: str) -> StyleCounts:
    """Tokens of `text`, and its headers, list items and bold spans outside fenced code."""
    prose = _FENCE.sub("", text)
    found = (len(pattern.findall(prose)) for pattern in (_HEADER, _LIST, _BOLD))
    return StyleCounts(count_tokens(text), *found)


def style_differences(first: Sequence[StyleCounts], second: Sequence[StyleCounts]) -> Floats:
    """How much longer and more marked up each first response is, shape (n, 4): `FEATURES`.

    Length: (l1 - l2) / (l1 + l2) of tokens. The others: (q1 - q2) / (q1 + q2 + 1) of densities
    q = count / (tokens + 1). Swapping the two changes the sign.

    Raises:
        DataError: the two differ in length, or are empty.
    """
    if len(first) != len(second):
        raise DataError(f"{len(first)} responses against {len(second)}")
    if not first:
        raise DataError("there are no responses")
    a, b = _table(first), _table(second)
    tokens = a[:, 0] + b[:, 0]
    length = (a[:, 0] - b[:, 0]) / np.maximum(tokens, 1)  # both empty: no difference
    q_a, q_b = a[:, 1:] / (a[:, :1] + 1), b[:, 1:] / (b[:, :1] + 1)
    return np.column_stack([length, (q_a - q_b) / (q_a + q_b + 1)])


def fit_style_control(
    i: ArrayLike,
    j: ArrayLike,
    y: ArrayLike,
    n_models: int,
    differences: ArrayLike,
    *,
    features: Sequence[str] = FEATURES,
    center: bool = True,
    weights: ArrayLike | None = None,
    clusters: Prompts | None = None,
    ridge: float = 0.0,
) -> StyleControlled:
    """Bradley-Terry strengths with style differences as further columns.

    A feature without any spread says nothing: its coefficient and standard error are 0.

    Args:
        i: Shape (n,), index of the first model of each comparison.
        j: Shape (n,), index of the second.
        y: Shape (n,), in [0, 1]: 1 where i won, 0 where j won, 0.5 a tie, or P(i preferred).
        n_models: Models are numbered 0 to n_models - 1.
        differences: Shape (n, n_features), from `style_differences` or any other of the form
            first minus second.
        features: Names of the columns.
        center: True gives z-scores (mean subtracted, ddof 1), as Arena-Hard publishes them:
            models are then compared at the mean style difference, which is that of the baseline
            to all others when j is always the baseline. False only divides by the root mean
            square: models are compared at equal style, and swapping i and j changes nothing.
        weights: Shape (n,), positive.
        clusters: The prompt of each comparison, length n.
        ridge: As in `fit_bradley_terry`.

    Raises:
        DataError: as `fit_bradley_terry`; or `features` does not name the columns.
    """
    matrix = np.asarray(differences, dtype=np.float64)
    if matrix.ndim != 2 or matrix.shape[1] != len(features):
        raise DataError(f"differences have shape {matrix.shape}, not (n, {len(features)})")
    if not np.isfinite(matrix).all():
        raise DataError("a style difference is NaN or infinite")
    n_rows = max(matrix.shape[0], 1)
    centers = matrix.mean(axis=0) if center and matrix.size else np.zeros(len(features))
    moved = matrix - centers
    degrees = n_rows - 1 if center and n_rows > 1 else n_rows
    scales = np.sqrt((moved**2).sum(axis=0) / degrees)
    varies = scales > 1e-12
    scales = np.where(varies, scales, 1.0)
    fit = fit_bradley_terry(
        i,
        j,
        y,
        n_models,
        weights=weights,
        clusters=clusters,
        ridge=ridge,
        covariates=(moved / scales)[:, varies],
    )
    coefficients, se = np.zeros(len(features)), np.zeros(len(features))
    coefficients[varies], se[varies] = fit.coefficients, fit.se_coefficients
    return StyleControlled(fit, tuple(features), coefficients, se, centers, scales)


def _table(counts: Sequence[StyleCounts]) -> Floats:
    return np.array([(c.tokens, c.headers, c.lists, c.bold) for c in counts], dtype=np.float64)

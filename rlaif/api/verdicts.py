"""Verdicts that are counted and show themselves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, overload

from rlaif.api.table import Table
from rlaif.canonical import digest, json_line
from rlaif.errors import DataError
from rlaif.types import Verdict, as_dict

_SHOWN = 20
"""Rows of items that a notebook shows of itself."""


class Verdicts(Sequence[Verdict]):
    """The verdicts of one run, in the order of its rows.

    verdicts.table()      # one row a model, with n, coverage and interval
    verdicts.rows()       # one dict an item, for pandas
    verdicts.save("runs/mine")   # a run folder: `rlaif report`, `prefer`, `leaderboard` read it

    Args:
        verdicts: The verdicts.
        summary: What was counted, as in a run's `summary.json`.
    """

    def __init__(self, verdicts: Sequence[Verdict], summary: Mapping[str, Any]) -> None:
        self._verdicts = tuple(verdicts)
        self.summary = dict(summary)

    @overload
    def __getitem__(self, place: int) -> Verdict: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[Verdict]: ...
    def __getitem__(self, place: int | slice) -> Verdict | Sequence[Verdict]:
        return self._verdicts[place]

    def __len__(self) -> int:
        return len(self._verdicts)

    def __iter__(self) -> Iterator[Verdict]:
        return iter(self._verdicts)

    @property
    def coverage(self) -> float:
        """Share of the items that have a verdict, 0..1."""
        return float(self.summary["coverage"])

    @property
    def causes(self) -> dict[str, int]:
        """Items without a verdict, by cause."""
        return dict(self.summary["causes"])

    @property
    def cost_usd(self) -> float:
        """US dollars paid; replies from the store cost nothing again."""
        return float(self.summary["cost_usd"])

    def rows(self) -> list[dict[str, Any]]:
        """One plain dict a verdict, the same keys in each of a kind; `None` where there is none."""
        return [_row(verdict) for verdict in self]

    def table(self, baseline: str | None = None, *, level: float = 0.95) -> Table:
        """One row a model: the mean score or the win rate, with its interval, n and coverage.

        Args:
            baseline: The other side of every win rate; all others by default.
            level: Confidence of the intervals, which rest on prompts.

        Raises:
            DataError: every comparison is of a model with itself.
            ConfigError: no such baseline.
        """
        from rlaif.evals.leaderboard import LeaderboardTable, Settings

        board = LeaderboardTable(strata=())
        for verdict in self:
            board.add(verdict)
        made = board.result(Settings(baseline=baseline, level=level))
        figure = made["interval_of"]
        rows = [
            {
                "model": row["model"],
                "n": row["n"],
                "coverage": row["coverage"],
                figure: row.get(figure),
                "low": row.get("low"),
                "high": row.get("high"),
                "strength": row.get("strength"),
            }
            for row in made["rows"]
        ]
        if all(row["strength"] is None for row in rows):
            for row in rows:
                del row["strength"]
        note = f"{level:.0%} intervals over {made['prompts']} prompts. {self._account()}"
        against = f", against {made['baseline']}" if made.get("baseline") else ""
        return Table(f"{made['kind']}s by {made['judge']}{against}", rows, note)

    def save(self, folder: str | Path) -> Path:
        """The run folder with these verdicts: what the commands after judging read.

        Raises:
            ConfigError: the folder holds something else.
            StoreError: it cannot be written.
        """
        from rlaif.store.runs import RunFolder

        items = digest([as_dict([v.item, v.candidates]) for v in self])
        judges = {digest(as_dict(v.judge)): as_dict(v.judge) for v in self}
        config = {"command": "python", "data_sha256": items, "judge": [*judges.values()]}
        run = RunFolder(Path(folder), config)
        with run.open_whole("verdicts.jsonl") as file:
            file.writelines(json_line(verdict.as_dict()) for verdict in self)
        run.write_json("summary.json", self.summary)
        return run.path

    def __repr__(self) -> str:
        return f"Verdicts: {self._account()}"

    def _repr_html_(self) -> str:
        shown = Table("", self.rows()[:_SHOWN], self._account())
        try:
            return self.table()._repr_html_() + shown._repr_html_()
        except DataError:
            return shown._repr_html_()

    def _account(self) -> str:
        causes = ", ".join(f"{n} {cause}" for cause, n in self.causes.items())
        cost = f", ${self.cost_usd:.4f}" if self.cost_usd else ""
        without = f" (without: {causes})" if causes else ""
        return f"{len(self)} verdicts asked for, coverage {self.coverage:.1%}{without}{cost}"


def _row(verdict: Verdict) -> dict[str, Any]:
    row: dict[str, Any] = {"item": verdict.item.id}
    if verdict.kind == "score":
        score = verdict.score
        row |= {"model": verdict.candidates[0].model, "score": score and score.value}
        criteria = (score.criteria or {}) if score else {}
        if len(criteria) > 1:
            row |= {name: one.get("value") for name, one in criteria.items()}
    elif verdict.kind == "comparison":
        preference = verdict.preference
        row |= {f"model_{side}": c.model for side, c in zip("ab", verdict.candidates, strict=True)}
        row |= {"winner": preference and preference.winner, "p_a": preference and preference.p_a}
        row["consistent"] = preference and preference.consistent
    else:
        ranking = verdict.ranking
        row["order"] = ranking and " > ".join(ranking.order)
        row |= {"settled": ranking and ranking.settled}
        row |= {"comparisons": ranking and ranking.comparisons}
    flags = sorted({flag for found in (verdict.flags or {}).values() for flag in found})
    return row | {"cause": verdict.cause, "flags": ", ".join(flags) or None}

"""What a sweep came to: a table of settings, a file of all runs, learning curves in one picture."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from dlarch.run_files import write_text
from dlarch.runs import better
from dlarch.sweep.plan import Plan
from dlarch.sweep.queue import Outcome

FACTS = ("monitor", "best_score", "best_epoch", "stopped_epoch", "minutes", "parameters")
"""What the file of runs holds of metrics.json besides the metrics; epochs from 0."""

MOST_CURVES = 24
"""Settings whose curves can be told from each other."""


@dataclass(frozen=True)
class Row:
    """A setting in the table.

    Attributes:
        setting: its name.
        records: of its finished runs, one for each seed.
        failed: runs that failed.
        left: runs that are still to come.
    """

    setting: str
    records: tuple[Mapping[str, Any], ...]
    failed: int
    left: int

    def values(self, metric: str) -> list[float]:
        """A metric, or a fact such as "parameters", of all finished runs that have it."""
        found = (record["metrics"].get(metric, record.get(metric)) for record in self.records)
        return [float(value) for value in found if value is not None]


def rows(outcomes: Iterable[Outcome]) -> list[Row]:
    """One row for each setting, in the order of the outcomes."""
    groups: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        groups.setdefault(outcome.setting, []).append(outcome)
    return [
        Row(
            name,
            tuple(record for outcome in group for record in outcome.records),
            sum(len(o.seeds) - len(o.records) for o in group if o.state == "failed"),
            sum(len(o.seeds) for o in group if o.state in ("running", "waiting")),
        )
        for name, group in groups.items()
    ]


def columns(plan: Plan, table: Sequence[Row]) -> list[str]:
    """The metrics of the table: those asked for, or the score and all of train and test."""
    if plan.columns is not None:
        return list(plan.columns)
    names = {name for row in table for record in row.records for name in record["metrics"]}
    scored = [name for name in sorted(names) if name.startswith("test/")]
    return [*_twins(scored, names), *scored]


def _twins(scored: Iterable[str], names: set[str]) -> list[str]:
    """The same metrics on the training split, where it was scored."""
    twins = [name.replace("test/", "train/", 1) for name in scored]
    return [name for name in twins if name in names and name != "train/loss"]


def spread(values: Sequence[float]) -> str:
    """Mean, and the standard deviation of several values."""
    if not values:
        return "-"
    if min(values) == max(values) >= 1000:  # a number of parameters
        return f"{values[0]:,.0f}"
    mean = f"{fmean(values):.4f}" if abs(fmean(values)) < 100 else f"{fmean(values):.1f}"
    return mean if len(values) == 1 else f"{mean} ± {stdev(values):.4f}"


def cells(row: Row, metrics: Iterable[str]) -> list[str]:
    """A row as text: metrics, the score of the best epoch, epochs from 1, minutes, runs."""
    scores = [r["best_score"] for r in row.records if r.get("best_score") is not None]
    best = [r["best_epoch"] + 1 for r in row.records if r["best_epoch"] is not None]
    stopped = [r["stopped_epoch"] + 1 for r in row.records]
    runs = str(len(row.records))
    runs += f", {row.failed} failed" if row.failed else ""
    runs += f", {row.left} to come" if row.left else ""
    return [
        row.setting,
        *(spread(row.values(metric)) for metric in metrics),
        spread(scores),
        _mean(best),
        _mean(stopped),
        _mean([r["minutes"] for r in row.records]),
        runs,
    ]


def _mean(values: Sequence[float]) -> str:
    return f"{fmean(values):.1f}" if values else "-"


def header(plan: Plan, table: Sequence[Row], metrics: Iterable[str]) -> list[str]:
    """The heads of the columns of `cells`."""
    score = plan.metric or monitored(table) or "score"
    return ["setting", *metrics, f"best {score}", "best epoch", "epochs", "minutes", "runs"]


def ranked(plan: Plan, table: Sequence[Row]) -> list[Row]:
    """The rows of a search by their score, the best first; those of a list as they stand."""
    if plan.search is None or plan.metric is None:
        return list(table)

    def score(row: Row) -> float:
        scores = [r["best_score"] for r in row.records if r.get("best_score") is not None]
        return fmean(scores) if scores else -sign * float("inf")

    sign = 1 if better(plan.metric) == "max" else -1
    return sorted(table, key=lambda row: -sign * score(row))


def write_runs(path: Path, outcomes: Iterable[Outcome]) -> None:
    """Write a line for each run as CSV: setting, seed, state, facts, metrics, command or error."""
    lines: list[dict[str, Any]] = []
    for outcome in outcomes:
        for seed, record in zip(outcome.seeds, outcome.records, strict=False):
            facts = {name: record.get(name) for name in FACTS}
            line = {"setting": outcome.setting, "seed": seed, "state": "finished"}
            lines.append({**line, **facts, **record["metrics"], "command": record["command"]})
        for seed in outcome.seeds[len(outcome.records) :]:
            line = {"setting": outcome.setting, "seed": seed, "state": outcome.state}
            lines.append({**line, "error": outcome.error})
    first = ("setting", "seed", "state", *FACTS)
    metrics = sorted({name for line in lines for name in line if "/" in name})
    text = io.StringIO()
    names = [*first, *metrics, "command", "error"]
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    write_text(path, text.getvalue())


def draw_curves(path: Path, table: Sequence[Row], metric: str) -> bool:
    """Draw a metric over the epochs, a line for each setting: the mean over its runs.

    A band spans the runs. Returns false where no history has the metric.
    """
    from matplotlib import colormaps
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    curves = {row.setting: _by_epoch(row, metric) for row in table}
    curves = {name: curve for name, curve in curves.items() if curve}
    if not curves:
        return False
    figure = Figure(figsize=(9.6, 5.2), dpi=100, layout="constrained")
    axes = figure.add_subplot()
    colours = colormaps["turbo"]
    for place, (name, curve) in enumerate(list(curves.items())[:MOST_CURVES]):
        colour = colours((place + 0.5) / min(len(curves), MOST_CURVES))
        epochs = [epoch + 1 for epoch in curve]
        axes.plot(epochs, [fmean(v) for v in curve.values()], color=colour, lw=1.5, label=name)
        low, high = [min(v) for v in curve.values()], [max(v) for v in curve.values()]
        axes.fill_between(epochs, low, high, color=colour, alpha=0.15, linewidth=0)
    axes.set(xlabel="epoch", ylabel=metric)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#e6ebf1", linewidth=0.6)
    axes.legend(fontsize=7, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    if len(curves) > MOST_CURVES:
        axes.set_title(f"the first {MOST_CURVES} of {len(curves)} settings", fontsize=9)
    picture = io.BytesIO()
    FigureCanvasAgg(figure).print_png(picture)
    path.write_bytes(picture.getvalue())
    return True


def monitored(table: Iterable[Row]) -> str | None:
    """The metric that chose the checkpoints of the runs."""
    records = (record for row in table for record in row.records)
    return next((record["monitor"] for record in records if record.get("monitor")), None)


def _by_epoch(row: Row, metric: str) -> dict[int, list[float]]:
    """Values of all runs by epoch, from 0; of several validations in an epoch the last."""
    found: dict[int, dict[int, float]] = {}
    for number, record in enumerate(row.records):
        for line in record["history"]:
            if metric in line:
                found.setdefault(int(line["epoch"]), {})[number] = line[metric]
    return {epoch: list(found[epoch].values()) for epoch in sorted(found)}

"""`dlarch results`: metrics of finished runs, from docs/results.jsonl to docs/results.md."""

import json
import shlex
from collections.abc import Iterable, Mapping
from math import isfinite
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from dlarch.cli.options import OptionParser, choose
from dlarch.errors import OptionError, RunError
from dlarch.runs import Run, runs_root

Record = Mapping[str, Any]

FIELDS: dict[str, type | tuple[type, ...]] = {
    "model": str,
    "data": str,
    "recipe": (str, type(None)),
    "metrics": dict,
    "headline": (str, type(None)),
    "seed": (int, type(None)),
    "minutes": (int, float),
    "hardware": str,
    "versions": dict,
    "command": str,
    "date": str,
    "best_epoch": (int, type(None)),
    "stopped_epoch": (int, type(None)),
    "parameters": int,
}
"""What metrics.json holds: `recipe` is None for a run from Python, `metrics` go by tag
("test/bleu") and `headline` is one of them, `minutes` are of the run, `versions` go by package,
`command` is what made it."""

_TITLE = """\
# Results

Made from `results.jsonl` by `dlarch results render`; do not edit. Each row is one command, run
with the seeds given: mean ± standard deviation over the seeds, on the test split unless the
metric's name says otherwise. Minutes are of the whole run, mean over the seeds.
"""


def run(argv: list[str]) -> int:
    """`dlarch results add RUN` or `dlarch results render`, in a folder that has `docs`."""
    verb = (
        choose("results", argv, ("add", "render")) if argv[:1] not in (["-h"], ["--help"]) else ""
    )
    if verb == "add":
        parser = OptionParser("results add", "Append a run's metrics to results.jsonl.")
        parser.add_argument("run", help="run folder")
    elif verb == "render":
        parser = OptionParser("results render", "Write results.md from results.jsonl.")
    else:
        parser = OptionParser("results", "`add RUN` appends a run's metrics, `render` writes them.")
    parser.add_argument("--folder", default="docs", help="folder of both files (default: docs)")
    options = parser.parse(argv[1:] if verb else argv)
    folder = Path(options.folder)
    if not folder.is_dir():
        raise OptionError(f"There is no folder '{folder}'. Give it as --folder.")
    if verb == "add":
        add(options.run, folder)
    print(render(folder))
    return 0


def add(run: str, folder: Path) -> Record:
    """Append the record of a run to `folder`/results.jsonl.

    Args:
        run: run folder, as a path or below the root of runs.
        folder: of results.jsonl.

    Returns:
        The record.

    Raises:
        RunError: the run has no metrics.json, it is not a record, or it was added before.
    """
    path = Path(run) if Path(run).is_dir() else runs_root() / run
    if not path.is_dir():
        raise RunError(f"There is no run folder '{run}'.")
    source = Run(path).metrics
    if not source.is_file():
        raise RunError(f"{source} does not exist: the run is not finished, or was not tested.")
    record = _checked(source.read_text(encoding="utf-8"), str(source))
    known = read(folder)
    if record in known:
        raise RunError(f"The metrics of {path} are in {folder / 'results.jsonl'} already.")
    with (folder / "results.jsonl").open("a", encoding="utf-8", newline="\n") as file:
        file.write(json.dumps(record, ensure_ascii=False, sort_keys=True) + "\n")
    return record


def read(folder: Path) -> list[Record]:
    """The records of `folder`/results.jsonl, oldest first; none when there is no such file.

    Raises:
        RunError: a line is not a record; file and line are named.
    """
    path = folder / "results.jsonl"
    if not path.is_file():
        return []
    lines = enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
    return [_checked(line, f"{path}, line {number}") for number, line in lines if line.strip()]


def render(folder: Path) -> Path:
    """Write `folder`/results.md from the records; returns its path."""
    groups: dict[tuple[str, str], dict[Any, Record]] = {}
    for record in read(folder):
        key = (record["recipe"] or "", setting_of(record["command"]))
        groups.setdefault(key, {})[record["seed"]] = record  # a seed run again counts once
    ordered = [list(groups[key].values()) for key in sorted(groups)]
    text = "\n".join([_TITLE, *_summary(ordered), *(_section(records) for records in ordered)])
    path = folder / "results.md"
    path.write_text(text.rstrip() + "\n", encoding="utf-8", newline="\n")
    return path


def setting_of(command: str) -> str:
    """A command without its seed and the name of its folder, by which runs are grouped."""
    words = iter(shlex.split(command))
    kept: list[str] = []
    for word in words:
        option, _, value = word.partition("=")
        if option not in ("--seed_everything", "--name"):
            kept.append(word)
        elif not value:
            next(words, None)
    return shlex.join(kept)


def mean_and_deviation(values: Iterable[float]) -> str:
    """Mean ± sample standard deviation, to four decimals below 10 and two from there on."""
    numbers = list(values)
    mean = fmean(numbers)
    decimals = 4 if abs(mean) < 10 else 2
    if len(numbers) == 1:
        return f"{mean:.{decimals}f}"
    return f"{mean:.{decimals}f} ± {stdev(numbers):.{decimals}f}"


def _checked(text: str, where: str) -> Record:
    try:
        record = json.loads(text)
    except json.JSONDecodeError as error:
        raise RunError(f"{where} is not JSON: {error}.") from error
    if not isinstance(record, dict):
        raise RunError(f"{where} is not a record of metrics.")
    for name, kind in FIELDS.items():
        if name not in record or not isinstance(record[name], kind):
            raise RunError(f"{where} has no valid '{name}'.")
    metrics = record["metrics"]
    for tag, value in metrics.items():
        if not isinstance(value, (int, float)):
            raise RunError(f"{where}: the metric '{tag}' is not a number.")
    # A perplexity may overflow; JSON has no word for that, and a mean no use.
    record["metrics"] = {tag: value for tag, value in metrics.items() if isfinite(value)}
    if record["headline"] not in record["metrics"]:
        raise RunError(
            f"{where} has no figure for its headline, {record['headline']}: was the run tested?"
        )
    return {name: record[name] for name in FIELDS}


def _summary(groups: list[list[Record]]) -> list[str]:
    lines = [
        "| recipe | model | data | metric | value | seeds | minutes | parameters | hardware |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for records in groups:
        newest, tag = records[-1], records[-1]["headline"]
        scored = [record["metrics"][tag] for record in records if tag in record["metrics"]]
        cells = [
            *(newest[name] or "none" for name in ("recipe", "model", "data")),
            tag,
            mean_and_deviation(scored),
            str(len(records)),
            _minutes(records),
            f"{newest['parameters']:,}",
            _distinct(record["hardware"] for record in records),
        ]
        lines.append(f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |")
    return [*lines, ""]


def _epoch(number: int | None) -> str:
    """An epoch as people count it, from 1."""
    return "last" if number is None else str(number + 1)


def _section(records: list[Record]) -> str:
    newest = records[-1]
    tags = sorted({tag for record in records for tag in record["metrics"]})
    versions = _distinct(
        ", ".join(f"{name} {number}" for name, number in sorted(record["versions"].items()))
        for record in records
    )
    seeds = ", ".join(str(record["seed"]) for record in records)
    epochs = ", ".join(
        f"{_epoch(r['best_epoch'])} of {_epoch(r['stopped_epoch'])}" for r in records
    )
    lines = [
        f"## {newest['recipe'] or 'No recipe'}: {newest['model']} on {newest['data']}",
        "",
        "```\n" + setting_of(newest["command"]) + "\n```",
        "",
        "| metric | value |",
        "|---|---|",
    ]
    for tag in tags:
        values = [record["metrics"][tag] for record in records if tag in record["metrics"]]
        lines.append(f"| {tag} | {mean_and_deviation(values)} |")
    lines += [
        "",
        f"- seeds: {seeds} (n = {len(records)})",
        f"- best epoch of epochs run: {epochs}",
        f"- minutes: {_minutes(records)}",
        f"- hardware: {_distinct(record['hardware'] for record in records)}",
        f"- versions: {versions}",
        f"- date: {_distinct(record['date'][:10] for record in records)}",
        "",
    ]
    return "\n".join(lines)


def _minutes(records: list[Record]) -> str:
    return f"{fmean(record['minutes'] for record in records):.1f}"


def _distinct(values: Iterable[str]) -> str:
    return "; ".join(dict.fromkeys(values))

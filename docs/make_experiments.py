"""Keep the runs of sweeps, and make tables of them.

python docs/make_experiments.py                 writes experiments/SWEEP.txt from SWEEP.csv
python docs/make_experiments.py RUNS.csv ...    takes up runs of sweeps first, each seed once

RUNS.csv is what `dlarch sweep` leaves in runs/sweeps/SWEEP.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, stdev

FOLDER = Path(__file__).parent / "experiments"
Lines = list[dict[str, str]]

PUBLISHED = dict(
    zip(
        range(1, 22),
        (0.812, 0.978, 0.961, 0.900, 0.962, 0.972, 0.968, 0.977, 0.977, 0.993, 0.991, 0.991, 0.991,
         0.932, 0.895, 0.942, 0.986, 0.984, 0.982, 0.981, 0.978),
        strict=True,
    )
)  # fmt: skip
"""Training accuracies of the published table, one seed, by the number of the run."""

MULTI30K_TOKENS = 409_233
"""English tokens of the training captions, ends included."""


def main() -> None:
    for given in map(Path, sys.argv[1:]):
        if not given.is_file():
            raise SystemExit(f"There is no file {given}.")
        name = given.resolve().parent.name
        save(FOLDER / f"{name}.csv", merged(read(FOLDER / f"{name}.csv"), read(given)))
    for path in sorted(FOLDER.glob("*.csv")):
        write_table(TABLES[path.stem](read(path)), path.with_suffix(".txt"))


def write_table(table: Sequence[Sequence[str]], path: Path) -> None:
    """Write rows, of which the second is the rule below the names, as a table of Markdown."""
    content = "\n".join(f"| {' | '.join(row)} |" for row in table) + "\n"
    path.write_text(content, encoding="utf-8")
    print(path)


def read(path: Path) -> Lines:
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def merged(old: Lines, new: Lines) -> Lines:
    """The finished runs of both, the newer of a setting and seed, in the order of the settings."""
    finished = [line for line in (*old, *new) if line["state"] == "finished"]
    runs = {(line["setting"], line["seed"]): line for line in finished}
    order = {line["setting"]: None for line in (*new, *old)}
    places = {setting: place for place, setting in enumerate(order)}
    return sorted(runs.values(), key=lambda line: (places[line["setting"]], int(line["seed"])))


def save(path: Path, lines: Lines) -> None:
    names = list(dict.fromkeys(name for line in lines for name in line))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)


def settings(lines: Lines) -> dict[str, Lines]:
    groups: dict[str, Lines] = {}
    for line in lines:
        groups.setdefault(line["setting"], []).append(line)
    return groups


def mean(lines: Lines, name: str, digits: int = 2, times: int = 1) -> str:
    """Mean and deviation."""
    values = [times * float(line[name]) for line in lines]
    spread = f" ± {stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{fmean(values):.{digits}f}{spread}"


def percent(lines: Lines, name: str) -> str:
    """Mean and deviation in percent."""
    return mean(lines, name, times=100)


def epoch(lines: Lines, name: str) -> str:
    """Mean epoch, counted from 1."""
    return f"{fmean(float(line[name]) + 1 for line in lines):.1f}"


def twenty_one(lines: Lines) -> list[Sequence[str]]:
    table: list[Sequence[str]] = [
        ("run", "published, train", "train", "test", "restored epoch", "stopped epoch", "seeds"),
        ("---",) * 7,
    ]
    numbered = {int(setting.split()[0]): setting for setting in settings(lines)}
    for number, setting in sorted(numbered.items()):
        runs = settings(lines)[setting]
        table.append(
            (
                setting,
                f"{100 * PUBLISHED[number]:.1f}",
                percent(runs, "train/accuracy"),
                percent(runs, "test/accuracy"),
                epoch(runs, "best_epoch"),
                epoch(runs, "stopped_epoch"),
                str(len(runs)),
            )
        )
    return table


def rates(lines: Lines) -> list[Sequence[str]]:
    """Best validation accuracy by optimizer and learning rate."""
    scores = {line["setting"]: float(line["best_score"]) for line in lines}
    pairs = {setting: setting.rsplit(", lr ", 1) for setting in scores}
    steps = sorted({float(rate) for _, rate in pairs.values()})
    table: list[Sequence[str]] = [
        ("optimizer", *(f"{step:g}" for step in steps)),
        ("---",) * (len(steps) + 1),
    ]
    for optimizer in dict.fromkeys(name for name, _ in pairs.values()):
        row = {
            float(rate): scores[setting]
            for setting, (name, rate) in pairs.items()
            if name == optimizer
        }
        best = max(row.values())
        cells = (f"{100 * row[step]:.2f}" if step in row else "diverged" for step in steps)
        marked = (
            f"**{cell}**" if row.get(step) == best else cell
            for step, cell in zip(steps, cells, strict=True)
        )
        table.append((optimizer.removeprefix("optimizer "), *marked))
    return table


def optimizers(lines: Lines) -> list[Sequence[str]]:
    table: list[Sequence[str]] = [
        ("optimizer", "learning rate", "train", "test", "restored epoch", "minutes", "seeds"),
        ("---",) * 7,
    ]
    for setting, runs in settings(lines).items():
        name, _, rate = setting.rpartition(", lr ")
        table.append(
            (
                name,
                rate,
                percent(runs, "train/accuracy"),
                percent(runs, "test/accuracy"),
                epoch(runs, "best_epoch"),
                f"{fmean(float(run['minutes']) for run in runs):.1f}",
                str(len(runs)),
            )
        )
    return table


def captions(lines: Lines) -> list[Sequence[str]]:
    table: list[Sequence[str]] = [
        (
            "model",
            "BLEU",
            "cased BLEU",
            "perplexity",
            "epochs",
            "minutes",
            "tokens/s",
            "parameters",
        ),
        ("---",) * 8,
    ]
    for setting, runs in settings(lines).items():
        seconds = [60 * float(run["minutes"]) for run in runs]
        tokens = [MULTI30K_TOKENS * (int(run["stopped_epoch"]) + 1) for run in runs]
        table.append(
            (
                setting,
                mean(runs, "test/bleu_tokens", 1),
                mean(runs, "test/bleu", 1),
                mean(runs, "test/perplexity"),
                epoch(runs, "stopped_epoch").removesuffix(".0"),
                mean(runs, "minutes", 0),
                f"{sum(tokens) / sum(seconds):.0f}",
                f"{int(runs[0]['parameters']):,}",
            )
        )
    return table


def exact(lines: Lines) -> list[Sequence[str]]:
    table: list[Sequence[str]] = [
        ("setting", "exact match, %", "edit distance", "minutes", "parameters", "seeds"),
        ("---",) * 6,
    ]
    for setting, runs in settings(lines).items():
        table.append(
            (
                setting,
                percent(runs, "test/exact_match"),
                mean(runs, "test/edit_distance", 4),
                mean(runs, "minutes", 1),
                f"{int(runs[0]['parameters']):,}",
                str(len(runs)),
            )
        )
    return table


def by_task(lines: Lines) -> list[Sequence[str]]:
    """Exact match in percent, or BLEU where sentences are translated, by model and task."""
    rows: dict[str, dict[str, str]] = {}
    for setting, runs in settings(lines).items():
        model, task = setting.rsplit(", ", 1)
        right = percent(runs, "test/exact_match")
        asks_bleu = task.startswith(("sentences", "captions"))
        rows.setdefault(model, {})[task] = mean(runs, "test/bleu_tokens", 1) if asks_bleu else right
    tasks = list(dict.fromkeys(task for row in rows.values() for task in row))
    table: list[Sequence[str]] = [("model", *tasks), ("---",) * (len(tasks) + 1)]
    return [
        *table,
        *((model, *(row.get(task, "") for task in tasks)) for model, row in rows.items()),
    ]


def lengths(lines: Lines) -> list[Sequence[str]]:
    """Errors of each task and cell by length."""
    steps = sorted({int(line["setting"].rpartition(" ")[2]) for line in lines})
    table: list[Sequence[str]] = [
        ("task, cell", *map(str, steps)),
        ("---",) * (len(steps) + 1),
    ]
    rows: dict[str, dict[int, str]] = {}
    for setting, runs in settings(lines).items():
        name, _, length = setting.rpartition(", length ")
        of_classes = all(run.get("test/accuracy") for run in runs)
        error = percent(runs, "test/accuracy") + " %" if of_classes else mean(runs, "test/loss", 4)
        rows.setdefault(name.replace("cell ", ""), {})[int(length)] = error
    table += [(name, *(row.get(step, "") for step in steps)) for name, row in rows.items()]
    return table


def beginnings(lines: Lines) -> list[Sequence[str]]:
    """Nats per character by how the recurrent matrix begins, for each nonlinearity."""
    kinds = ("tanh", "relu")
    found: dict[str, dict[str, str]] = {}
    for setting, runs in settings(lines).items():
        kind, _, start = setting.removeprefix("nonlinearity ").partition(", ")
        found.setdefault(start, {})[kind] = mean(runs, "test/loss", 3)
    return [
        ("recurrent matrix begins", *kinds),
        ("---",) * 3,
        *((start, *(row.get(kind, "diverged") for kind in kinds)) for start, row in found.items()),
    ]


def reviews(lines: Lines) -> list[Sequence[str]]:
    """Accuracies in percent by the length of a review, and of what a model is certain of."""
    names = [name for name in lines[0] if name.startswith(("to ", "over ")) or " to " in name]
    columns = ["accuracy", *names, "certain", "certain_accuracy"]
    table: list[Sequence[str]] = [
        ("model", "all", *(f"{name} tokens" for name in names), "certain of", "then right"),
        ("---",) * (len(columns) + 1),
    ]
    best_first = sorted(lines, key=lambda line: -float(line["accuracy"]))
    for setting, runs in settings(best_first).items():
        cells = (mean(runs, column, 1, times=100) for column in columns)
        table.append((f"`{setting}`", *cells))
    return table


def classified(lines: Lines) -> list[Sequence[str]]:
    table: list[Sequence[str]] = [
        ("setting", "test accuracy, %", "nats", "parameters", "minutes", "seeds"),
        ("---",) * 6,
    ]
    for setting, runs in settings(lines).items():
        table.append(
            (
                setting,
                percent(runs, "test/accuracy"),
                mean(runs, "test/loss", 3),
                f"{int(runs[0]['parameters']):,}",
                mean(runs, "minutes", 1).partition(" ")[0],
                str(len(runs)),
            )
        )
    return table


TABLES = {
    "reviews": reviews,
    "text_inputs": classified,
    "text_pooling": classified,
    "memory": lengths,
    "recurrent_inits": beginnings,
    "multi30k_models": captions,
    "numbers": exact,
    "translators": by_task,
    "mnist_mlp_21": twenty_one,
    "mnist_optimizers_lr": rates,
    "mnist_optimizers": optimizers,
}

if __name__ == "__main__":
    main()

"""`dlarch results`: from metrics.json to docs/results.md."""

import json
import re
from pathlib import Path

import pytest

from dlarch.cli.main import main
from dlarch.cli.results import mean_and_deviation, setting_of

RECORD = {
    "model": "seq2seq_attn",
    "data": "translation",
    "recipe": "seq2seq_attn",
    "metrics": {"test/exact_match": 0.9, "test/bleu": 30.0},
    "headline": "test/exact_match",
    "seed": 1,
    "minutes": 2.0,
    "hardware": "2 CPU cores",
    "versions": {"torch": "2.15.0", "dlarch": "0.1.0"},
    "command": "dlarch fit --config seq2seq_attn --seed_everything 1",
    "date": "2026-11-23T04:51:07",
    "best_epoch": 5,
    "stopped_epoch": 6,
    "parameters": 1234567,
}


@pytest.fixture(autouse=True)
def here(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DLARCH_RUNS", raising=False)
    Path("docs").mkdir()


def finished_run(name: str, **changes) -> str:
    folder = Path("runs", "x", name)
    folder.mkdir(parents=True)
    (folder / "metrics.json").write_text(json.dumps(RECORD | changes), encoding="utf-8")
    return str(folder)


def row(text: str, name: str) -> list[str]:
    """Cells of the first table row that starts with `name`."""
    line = next(line for line in text.splitlines() if line.startswith(f"| {name} |"))
    return [cell.strip() for cell in line.strip("|").split("|")]


def refused(capsys, *words: str) -> str:
    assert main(["results", *words]) == 2
    return capsys.readouterr().err


def test_seeds_of_one_command_become_one_row_with_mean_and_sample_deviation():
    for seed, match, minutes in ((1, 0.9, 2.0), (2, 1.0, 3.0), (3, 0.98, 4.0)):
        command = f"dlarch fit --config seq2seq_attn --seed_everything={seed}"
        run = finished_run(
            str(seed),
            seed=seed,
            minutes=minutes,
            command=command,
            metrics={"test/exact_match": match, "test/bleu": 30.0},
        )
        assert main(["results", "add", run]) == 0
    text = Path("docs/results.md").read_text(encoding="utf-8")
    # Mean 0.96, squared deviations 0.0036 + 0.0016 + 0.0004 = 0.0056, divided by 2.
    assert row(text, "seq2seq_attn") == [
        "seq2seq_attn",
        "seq2seq_attn",
        "translation",
        "test/exact_match",
        "0.9600 ± 0.0529",
        "3",
        "3.0",
        "1,234,567",
        "2 CPU cores",
    ]
    assert row(text, "test/bleu") == ["test/bleu", "30.00 ± 0.00"]
    assert "```\ndlarch fit --config seq2seq_attn\n```" in text
    assert "- seeds: 1, 2, 3 (n = 3)" in text
    assert "- versions: dlarch 0.1.0, torch 2.15.0" in text
    assert "- date: 2026-11-23\n" in text


def test_each_run_is_one_line_of_json_and_is_added_once(capsys):
    run = finished_run("a", notes="not kept")
    assert main(["results", "add", run]) == 0
    assert main(["results", "add", finished_run("b", seed=2)]) == 0
    lines = Path("docs/results.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == [RECORD, RECORD | {"seed": 2}]
    assert "already" in refused(capsys, "add", run)
    assert len(Path("docs/results.jsonl").read_text().splitlines()) == 2


def test_run_may_be_named_below_the_root_of_runs(capsys):
    finished_run("a")
    assert main(["results", "add", "x/a"]) == 0


def test_other_options_or_recipes_are_other_rows():
    for name, changes in (
        ("a", {}),
        ("b", {"command": "dlarch fit --config seq2seq_attn --model.dropout 0.1"}),
        ("c", {"recipe": "sweeps/y"}),
    ):
        main(["results", "add", finished_run(name, **changes)])
    text = Path("docs/results.md").read_text(encoding="utf-8")
    assert len(re.findall(r"^\| .*\| 0\.9000 \| 1 \|", text, re.MULTILINE)) == 3


def test_seed_run_again_counts_once_with_its_newer_figure():
    main(["results", "add", finished_run("a")])
    main(["results", "add", finished_run("b", metrics={"test/exact_match": 0.5})])
    cells = row(Path("docs/results.md").read_text(encoding="utf-8"), "seq2seq_attn")
    assert cells[4:6] == ["0.5000", "1"]


def test_render_makes_the_page_anew_from_the_records(capsys):
    main(["results", "add", finished_run("a")])
    before = Path("docs/results.md").read_bytes()
    Path("docs/results.md").write_text("edited")
    assert main(["results", "render"]) == 0
    assert Path("docs/results.md").read_bytes() == before
    assert capsys.readouterr().out.splitlines()[-1] == str(Path("docs/results.md"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"minutes": "two"}, "no valid 'minutes'"),
        ({"metrics": {"test/bleu": 1.0}}, "no figure for its headline, test/exact_match"),
        ({"metrics": {"test/exact_match": "high"}}, "'test/exact_match' is not a number"),
        ({"metrics": {"test/exact_match": float("nan")}}, "was the run tested?"),
        ({"headline": None}, "was the run tested?"),
    ],
)
def test_metrics_that_are_no_record_are_refused_and_nothing_is_written(capsys, changes, message):
    assert message in refused(capsys, "add", finished_run("a", **changes))
    assert list(Path("docs").iterdir()) == []


def test_missing_things_are_named(capsys):
    assert "no run folder 'x/nowhere'" in refused(capsys, "add", "x/nowhere")
    Path("runs/x/empty").mkdir(parents=True)
    assert "metrics.json does not exist" in refused(capsys, "add", "x/empty")
    finished_run("a")
    assert "no folder 'elsewhere'" in refused(capsys, "add", "x/a", "--folder", "elsewhere")
    Path("docs/results.jsonl").write_text(json.dumps(RECORD) + "\n{\n")
    assert "results.jsonl, line 2 is not JSON" in refused(capsys, "render").replace("\\", "/")
    assert "Did you mean 'render'" in refused(capsys, "rendr")


@pytest.mark.parametrize(
    "command",
    [
        "a --seed_everything 3 --b",
        "a --seed_everything=3 --b",
        "a --b --seed_everything 12",
        "a --name 'over here' --seed_everything 12 --b",
        "a '--name=over here' --b",
        "a --b",
    ],
)
def test_seed_is_left_out_of_a_command(command):
    assert setting_of(command) == "a --b"


def test_run_from_python_has_no_recipe_and_overflow_is_left_out():
    metrics = {"test/exact_match": 0.5, "test/perplexity": float("inf")}
    assert main(["results", "add", finished_run("a", recipe=None, metrics=metrics)]) == 0
    text = Path("docs/results.md").read_text(encoding="utf-8")
    assert row(text, "none")[3:5] == ["test/exact_match", "0.5000"]
    assert "perplexity" not in text


def test_single_figure_has_no_deviation():
    assert mean_and_deviation([37.421]) == "37.42"
    assert mean_and_deviation([1.0, 3.0]) == "2.0000 ± 1.4142"

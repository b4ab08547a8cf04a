"""Memory must not grow with the data."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

# Not ru_maxrss: across exec that keeps the peak of the process of the tests, which may be larger.
FIT = """
import sys
from dlarch.cli.main import main
code = main(sys.argv[1:])
with open("/proc/self/status") as file:
    peak = next(int(line.split()[1]) for line in file if line.startswith("VmHWM"))
print("peak", peak * 1024, "code", code)
"""


def write_pairs(path, count):
    """Sentences of 3 to 14 words, from a Zipf-like vocabulary of 30,000."""
    random = np.random.default_rng(0)
    words = np.array([f"w{index}" for index in range(30_000)])
    with path.open("w", encoding="utf-8") as file:
        for start in range(0, count, 10_000):
            rows = min(10_000, count - start)
            lengths = random.integers(3, 15, (rows, 2))
            ids = np.minimum(random.zipf(1.2, lengths.sum()) - 1, len(words) - 1)
            at = 0
            for source, target in lengths:
                pair = words[ids[at : at + source]], words[ids[at + source : at + source + target]]
                at += source + target
                file.write("\t".join(" ".join(side) for side in pair) + "\n")


def peak_memory(folder, count):
    folder.mkdir()
    write_pairs(folder / "pairs.tsv", count)
    environment = {
        **os.environ,
        "DLARCH_CACHE": str(folder / "cache"),
        "DLARCH_RUNS": str(folder / "runs"),
        "CI": "1",
    }
    done = subprocess.run(
        [
            sys.executable, "-c", FIT, "fit", "--config", "seq2seq_attn",
            "--data.source", str(folder / "pairs.tsv"), "--trainer.max_steps", "20",
            "--model.embedding_size", "8", "--model.encoder_size", "8", "--model.hidden_size", "8",
            "--data.max_vocab_size", "2000", "--trainer.limit_val_batches", "1",
            "--test_after_fit", "false", "--model.pictures", "false",
        ],
        env=environment, cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "code 0" in done.stdout, done.stderr
    return int(done.stdout.split("peak ")[1].split()[0])


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("count", "more"),
    [(200_000, 50e6), pytest.param(1_000_000, 150e6, marks=pytest.mark.long)],
    ids=["200k", "million"],
)
def test_many_pairs_need_little_more_than_ten_thousand(tmp_path, count, more):
    if not Path("/proc/self/status").exists():
        pytest.skip("the peak of memory is read from /proc")
    small = peak_memory(tmp_path / "small", 10_000)
    large = peak_memory(tmp_path / "large", count)
    print(
        f"\npeak memory: {small / 1e6:.0f} MB with 10,000, {large / 1e6:.0f} with {count:,} pairs"
    )
    assert large - small <= more

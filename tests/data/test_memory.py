"""Memory must not grow with the data."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

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


# Pages of the cache that are mapped count to the peak of a process, but can be given back at any
# time: what must not grow is the memory that is the process's own.
READ = """
import sys, threading, time
import dlarch

peak, done = 0, threading.Event()

def watch():
    global peak
    while not done.wait(0.02):
        with open("/proc/self/status") as file:
            own = next(int(line.split()[1]) for line in file if line.startswith("RssAnon"))
        peak = max(peak, own * 1024)

watching = threading.Thread(target=watch)
watching.start()
data = dlarch.create_data("celeba", source=sys.argv[1], size=16)
data.prepare_data()
data.setup("fit")
count = sum(len(batch.image) for batch in data.train_dataloader())
done.set()
watching.join()
print("peak", peak, "images", count)
"""


def faces_memory(folder, count):
    """The peak of own memory in an epoch of faces in the original layout; links to ten files."""
    images = folder / "img_align_celeba"
    images.mkdir(parents=True)
    random = np.random.default_rng(0)
    for number in range(10):
        pixels = random.integers(0, 256, (218, 178, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.jpg")
    with (
        (folder / "list_attr_celeba.txt").open("w") as attributes,
        (folder / "list_eval_partition.txt").open("w") as partition,
    ):
        attributes.write(f"{count}\nSmiling Male\n")
        for number in range(1, count + 1):
            name = f"{number:06d}.jpg"
            os.link(folder / f"{number % 10}.jpg", images / name)
            attributes.write(f"{name} {1 if number % 2 else -1} -1\n")
            partition.write(f"{name} {0 if number % 10 < 8 else number % 10 - 7}\n")
    environment = {**os.environ, "DLARCH_CACHE": str(folder / "cache")}
    done = subprocess.run(
        [sys.executable, "-c", READ, str(folder)],
        env=environment, cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert f"images {count * 8 // 10}" in done.stdout, done.stderr
    return int(done.stdout.split("peak ")[1].split()[0])


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_many_faces_need_little_more_than_two_thousand(tmp_path):
    if not Path("/proc/self/status").exists():
        pytest.skip("the memory of a process is read from /proc")
    small = faces_memory(tmp_path / "small", 2_000)
    large = faces_memory(tmp_path / "large", 200_000)
    print(f"\nown memory: {small / 1e6:.0f} MB with 2,000, {large / 1e6:.0f} with 200,000 faces")
    assert large - small <= 100e6

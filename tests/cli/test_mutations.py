"""Two hundred seeded mutations of recipe, data and checkpoint: no traceback, no hang, no loss."""

import random
import time
from pathlib import Path

import pytest
import torch

from .conftest import dlarch, fingerprint

SECONDS = 60
LIMITS = (
    "--trainer.max_steps 2 --trainer.max_epochs 1 --trainer.limit_val_batches 1 "
    "--trainer.logger false --test_after_fit false"
)
JUNK = ("-1", "0", "x", "''", "[]", "{}", "null", "true", "1.5", "1e999", ".nan", "[1, [2]]", "é",
        "'a b'", "!!python/object:os.system x", "&a [*a]", "2024-99-99", "0x10", "~",
        "- - x")  # fmt: skip


@pytest.fixture
def survives(trained):
    """Run a command, which may succeed or be refused in one line, and do no harm."""
    before = fingerprint(trained.run.folder)
    outcomes = {0: 0, 2: 0}

    def run(command: str) -> None:
        started = time.monotonic()
        outcome = dlarch(command)  # an exception here is a traceback on the command line
        assert time.monotonic() - started < SECONDS
        assert outcome.code in outcomes, outcome
        outcomes[outcome.code] += 1
        if outcome.code == 2:
            assert outcome.complaint

    yield run
    assert fingerprint(trained.run.folder) == before
    # Neither all harmless nor all refused: the mutations reach both.
    assert min(outcomes.values()) > 0, outcomes


def mutated_text(text: str, draw: random.Random) -> str:
    """A recipe with one or two accidents."""
    lines = text.splitlines()
    for _ in range(draw.randint(1, 2)):
        at = draw.randrange(len(lines))
        kind = draw.randrange(7)
        if kind == 0:
            del lines[at]
        elif kind == 1:
            lines.insert(draw.randrange(len(lines)), lines[at])
        elif kind == 2:
            lines[at] = draw.choice(["", " ", "  ", "\t"]) + lines[at].lstrip()
        elif kind == 3 and ":" in lines[at]:
            lines[at] = lines[at].partition(":")[0] + ": " + draw.choice(JUNK)
        elif kind == 4:
            column = draw.randrange(len(lines[at]) + 1)
            lines[at] = (
                lines[at][:column] + draw.choice("x:-[]{}#'\"&*!|>%@`\0é") + lines[at][column:]
            )
        elif kind == 5 and lines[at]:
            column = draw.randrange(len(lines[at]))
            lines[at] = lines[at][:column] + lines[at][column + 1 :]
        else:
            other = draw.randrange(len(lines))
            lines[at], lines[other] = lines[other], lines[at]
    return "\n".join(lines) + "\n"


def mutated_bytes(content: bytes, draw: random.Random, most: int = 4) -> bytes:
    """Bytes flipped, lost, doubled or cut off."""
    changed = bytearray(content)
    for _ in range(draw.randint(1, most)):
        at = draw.randrange(len(changed))
        kind = draw.randrange(6)
        if kind == 0:
            changed[at] ^= 1 << draw.randrange(8)
        elif kind == 1:
            changed[at : at + draw.randint(1, 50)] = b""
        elif kind == 2:
            changed[at:at] = bytes(draw.choices(range(256), k=draw.randint(1, 20)))
        elif kind == 3:
            changed[at:at] = draw.choice(
                [b"\t", b"\n", b"\r", b"\0", b"\xff", b"\xef\xbb\xbf", b'"']
            )
        elif kind == 4:
            changed[at : at + 20] = changed[at : at + 20] * 2
        else:
            changed = changed[: max(1, at)]
    return bytes(changed)


def mutated_values(values: object, draw: random.Random) -> None:
    """Replace or remove one entry of nested dictionaries and lists, in place."""
    while True:
        keys = list(values) if isinstance(values, dict) else list(range(len(values)))
        key = draw.choice(keys)
        inner = values[key]
        if isinstance(inner, dict | list) and len(inner) and draw.random() < 0.7:
            values = inner
            continue
        if draw.random() < 0.3:
            del values[key]
        else:
            values[key] = draw.choice([None, "x", -1, [], {}, 1.5, True, torch.zeros(2)])
        return


def test_mutated_recipes(survives, here):
    text = Path("tiny.yaml").read_text()
    for seed in range(80):
        Path("mutant.yaml").write_text(mutated_text(text, random.Random(seed)))
        survives(f"fit --config mutant.yaml {LIMITS}")


def test_mutated_pairs(survives, here):
    content = Path("pairs.tsv").read_bytes()
    for seed in range(50):
        Path("mutant.tsv").write_bytes(mutated_bytes(content, random.Random(seed), most=2))
        survives(f"fit --config tiny --data.source mutant.tsv {LIMITS}")


def test_mutated_checkpoint_files(survives, trained, here):
    content = trained.run.last.read_bytes()
    for seed in range(35):
        Path("mutant.ckpt").write_bytes(mutated_bytes(content, random.Random(seed)))
        verb = "test" if seed % 2 else f"fit {LIMITS} --trainer.max_steps 20"
        survives(f"{verb} --ckpt_path mutant.ckpt")


def test_mutated_contents_of_checkpoints(survives, trained, here):
    for seed in range(35):
        checkpoint = torch.load(trained.run.last, weights_only=True)
        mutated_values(checkpoint, random.Random(seed))
        torch.save(checkpoint, "mutant.ckpt")
        verb = "test" if seed % 3 == 0 else f"fit {LIMITS} --trainer.max_steps 20"
        survives(f"{verb} --ckpt_path mutant.ckpt")

"""seq2seq_attn on its recipe: the promised figure, and that the task needs attention."""

import json

import pytest

from dlarch.cli.main import main
from dlarch.models.seq2seq.seq2seq_attn import Seq2SeqAttn

pytestmark = [pytest.mark.quality, pytest.mark.long, pytest.mark.timeout(3600)]


def exact_match(folder, monkeypatch, seed):
    monkeypatch.setenv("DLARCH_RUNS", str(folder))
    monkeypatch.chdir(folder)
    assert main(["fit", "--config", "seq2seq_attn", "--seed_everything", str(seed)]) == 0
    (figures,) = folder.rglob("metrics.json")
    return json.loads(figures.read_text())["metrics"]["test/exact_match"]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_recipe_translates_held_out_dates(tmp_path, monkeypatch, seed):
    assert exact_match(tmp_path, monkeypatch, seed) >= 0.999


def test_the_mean_of_the_annotations_is_not_enough(tmp_path, monkeypatch):
    def mean(self, query, memory):
        weights = memory.mask.to(query.dtype)
        weights = weights / weights.sum(1, keepdim=True)
        return weights[:, None].expand(-1, query.shape[1], -1)

    monkeypatch.setattr(Seq2SeqAttn, "attend", mean)
    assert exact_match(tmp_path, monkeypatch, 1) <= 0.9

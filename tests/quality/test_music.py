"""Tunes that a network writes, read by those who know the notation."""

import pytest

from dlarch import AutoModel

pytestmark = [pytest.mark.quality, pytest.mark.long, pytest.mark.timeout(3600)]


def test_tunes_can_be_read_and_played(fit, tmp_path):
    converter = pytest.importorskip("music21").converter
    model = AutoModel.from_pretrained(fit("--config char_rnn_abc").folder)
    read, full = [], 0
    for tune in model.generate(50, temperature=0.5, seed=1):
        try:
            score = converter.parse(tune, format="abc")
        except Exception:  # whatever music21 makes of it
            continue
        bars = list(score.recurse().getElementsByClass("Measure"))
        read.append(score)
        full += all(bar.duration.quarterLength == bar.barDuration.quarterLength for bar in bars)
    print(f"{len(read)} of 50 tunes can be read, {full} have full bars only")
    assert len(read) >= 48
    assert full >= 40
    read[0].write("midi", fp=tmp_path / "tune.mid")
    assert (tmp_path / "tune.mid").read_bytes()[:4] == b"MThd"

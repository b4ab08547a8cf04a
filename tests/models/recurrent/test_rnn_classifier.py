"""One text alone, in a batch, packed: the same logits, and those of torch's own network."""

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

from dlarch import create_model
from dlarch.processing.translation import pad
from dlarch.spec import BOS, EOS


def texts(count=7):
    generator = torch.Generator().manual_seed(1)
    lengths = torch.randint(1, 12, (count,), generator=generator).tolist()
    draw = [torch.randint(4, 20, (n,), generator=generator).tolist() for n in lengths]
    return [[BOS, *row, EOS] for row in draw]


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
@pytest.mark.parametrize("backend", ["written", "torch"])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_one_by_one_batched_packed_and_by_torch_are_equal(cell, backend, bidirectional):
    torch.manual_seed(0)
    model = create_model(
        "rnn_classifier", vocab_size=20, num_classes=5, cell=cell, cell_backend=backend,
        bidirectional=bidirectional, layers=2,
    ).eval()  # fmt: skip
    rows = texts()
    with torch.no_grad():
        batched = model(pad(rows))
        alone = torch.cat([model(torch.tensor([row])) for row in rows])
        kind = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}[cell]
        reference = kind(64, 128, 2, batch_first=True, bidirectional=bidirectional)
        reference.load_state_dict(model.recurrent.state_dict())
        by_torch = []
        for row in rows:  # without any padding or packing
            _, last = reference(model.embedding(torch.tensor([row])))
            hidden = last[0] if cell == "lstm" else last
            by_torch.append(model.output(torch.cat(list(hidden[-1 - bidirectional :]), dim=1)))
        lengths = torch.tensor([len(row) for row in rows])
        embedded = model.embedding(pad(rows))
        packed = pack_padded_sequence(embedded, lengths, batch_first=True, enforce_sorted=False)
        _, last = reference(packed)
        hidden = last[0] if cell == "lstm" else last
        by_packing = model.output(torch.cat(list(hidden[-1 - bidirectional :]), dim=1))
    torch.testing.assert_close(batched, alone, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(batched, by_packing, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(batched, torch.cat(by_torch), atol=1e-5, rtol=1e-5)


def test_what_stands_in_the_padding_is_not_read():
    model = create_model("rnn_classifier", vocab_size=20, num_classes=3).eval()
    rows = pad(texts())
    before = model(rows)
    with torch.no_grad():
        model.embedding.weight[0] = 100.0
    assert torch.equal(model(rows), before)

"""GPT against what others wrote: parameter counts, GPT-2 itself, and its own slower forms."""

import pytest
import torch

from dlarch import create_data, create_model
from dlarch.decoding import map_tensors
from dlarch.errors import DataError, MismatchError, OptionError
from dlarch.models.text.gpt import GPT
from dlarch.processing import LabelledTextProcessor, TextProcessor
from dlarch.processing.translation import pad
from dlarch.spec import BOS, EOS
from dlarch.tasks import Given

NOTHING = Given(None)


def make(seed=0, **options):
    """Weights large enough that attention is not uniform."""
    torch.manual_seed(seed)
    sizes = {"vocab_size": 12, "hidden_size": 16, "layers": 3, "heads": 4, "positions": 16}
    model = GPT(**sizes | options).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.4)
    return model


def tokens(rows=3, columns=16):
    return torch.randint(4, 12, (rows, columns), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("sizes", "count"),
    [((768, 12, 12), 124_439_808), ((1024, 24, 16), 354_823_168), ((1280, 36, 20), 774_030_080)],
)
def test_parameters_are_those_of_gpt2(sizes, count):
    """Those of `openai-community/gpt2`, `gpt2-medium` and `gpt2-large`."""
    with torch.device("meta"):
        model = GPT(50257, *sizes, positions=1024)
    assert sum(parameter.numel() for parameter in model.parameters()) == count


@pytest.mark.parametrize("prefix", ["", "transformer."])
def test_logits_are_those_of_gpt2_with_its_weights(prefix):
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(
        vocab_size=50, n_positions=24, n_embd=24, n_layer=3, n_head=4,
        bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    torch.manual_seed(0)
    theirs = transformers.GPT2LMHeadModel(config).eval()
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    weights = theirs.state_dict() if prefix else theirs.transformer.state_dict()
    mine = GPT.from_gpt2(weights, heads=4).eval()
    ids = torch.randint(0, 50, (3, 20))
    with torch.no_grad():
        expected = theirs(ids).logits
        assert expected.std() > 1
        torch.testing.assert_close(mine(ids), expected, atol=1e-4, rtol=1e-5)
    assert (mine.hparams.layers, mine.hparams.positions) == (3, 24)
    with pytest.raises(MismatchError, match=r"no weights of GPT-2: they lack 'wte.weight'"):
        GPT.from_gpt2({"wpe.weight": torch.zeros(2, 2)})


@torch.no_grad()
def test_a_later_token_leaves_earlier_logits_alone():
    model, ids = make(), tokens()
    for place in (1, 7, 15):
        changed = ids.clone()
        changed[:, place] = 4 + (ids[:, place] - 3) % 8
        torch.testing.assert_close(model(changed)[:, :place], model(ids)[:, :place])
        assert not torch.allclose(model(changed)[:, place], model(ids)[:, place], atol=1e-3)


@torch.no_grad()
def test_token_by_token_is_the_whole():
    model, ids = make(), tokens()
    logits = model(ids)
    _, state = model.read(ids[:, :5], model.start(3), NOTHING)
    for place in range(5, 16):
        output = model.step(ids[:, place : place + 1], state, NOTHING)
        state = output.state
        torch.testing.assert_close(output.logits[:, 0], logits[:, place], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_hypotheses_have_pasts_of_their_own():
    model, ids = make(), tokens(4)
    logits = model(ids).unflatten(0, (2, 2))
    state = model.start(2)
    state = map_tensors(lambda part: part.expand(-1, 2, *part.shape[2:]), state)
    for place in range(16):
        output = model.step(ids[:, place].view(2, 2), state, NOTHING)
        state = output.state
    torch.testing.assert_close(output.logits, logits[:, :, -1], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_when_all_positions_are_used_the_later_half_is_a_new_beginning():
    model, ids = make(), tokens(2, 30)
    state = model.start(2)
    for place in range(30):
        output = model.step(ids[:, place : place + 1], state, NOTHING)
        state = output.state
        begin = 0 if place < 16 else 8 if place < 24 else 16
        expected = model(ids[:, begin : place + 1])[:, -1]
        torch.testing.assert_close(output.logits[:, 0], expected, atol=1e-5, rtol=1e-5)
    assert state.tokens.shape == (2, 1, 14)


def test_it_writes_from_any_prompt_far_beyond_its_positions():
    model = make(vocab_size=9)
    letters = TextProcessor.from_tokens("abcde", "characters")
    model.processor = LabelledTextProcessor(letters)
    with torch.no_grad():
        model.embedding.weight[EOS] = 0  # it ends seldom
    text = model.generate(1, prompt="abcde" * 20, max_length=60, seed=0)[0]
    assert text.startswith("abcde" * 20)
    assert "".join(model.stream(prompt="abcde" * 20, max_length=60, seed=0)) == text
    assert model.generate(3, max_length=50, seed=1) == model.generate(3, max_length=50, seed=1)
    assert len(model.generate(2, beam=4, max_length=40)) == 2


def test_a_window_that_is_longer_than_the_positions_is_refused():
    model = make()
    with pytest.raises(DataError, match="17 tokens are more than the 16 positions of this model"):
        model(tokens(1, 17))
    with pytest.raises(OptionError, match="cannot be divided among 3 heads"):
        make(heads=3)
    with pytest.raises(OptionError, match="positions must be at least 2, not 1"):
        make(positions=1)


def test_what_blocks_add_begins_small():
    torch.manual_seed(0)
    model = GPT(40, 128, layers=8)
    block = model.blocks[0]
    assert block.network[0].weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert block.network[2].weight.std().item() == pytest.approx(0.02 / 4, rel=0.05)
    assert block.attention.output.weight.std().item() == pytest.approx(0.02 / 4, rel=0.05)
    assert model.positions.vectors.std().item() == pytest.approx(0.02, rel=0.05)
    assert not block.network[0].bias.any()


def test_names_are_texts_for_it_too(session_cache, monkeypatch):
    """It does not know their classes."""
    monkeypatch.setenv("DLARCH_CACHE", str(session_cache))
    data = create_data("names", locales=["fi_FI"], batch_size=8)
    data.prepare_data()
    data.setup("fit")
    model = create_model("gpt", data, hidden_size=16, layers=1)
    batch = next(iter(data.train_dataloader()))
    assert model(batch.tokens).shape == (*batch.tokens.shape, data.spec.vocab_size)
    padded = pad([[BOS, 5, EOS], [BOS, 5, 6, 7, EOS]])
    model.eval()
    with torch.no_grad():
        torch.testing.assert_close(model(padded)[0, :3], model(padded[:1, :3])[0])

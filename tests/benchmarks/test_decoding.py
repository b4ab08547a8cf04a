"""Decoding with the Transformer against `generate` of transformers, with the same weights.

Run on one thread: `OMP_NUM_THREADS=1 pytest tests/benchmarks -m benchmark -s`. Times are those of
this thread, whatever else the machine does; a ratio is the median over alternating runs.

Two models of transformers are ours once they do not normalise embeddings: MBart with pre-norm, BART
with post-norm. The searches are the same too: with `early_stopping` a sentence is done when as many
hypotheses as are followed have ended, and scores are divided by lengths that count the end. They
part only where the last of these hypotheses ends exactly at the limit, when `generate` compares it
with those that have not ended and we do not; in the sentences chosen here none does.

`generate` goes on with the whole batch until its last sentence is done, and we do not: so how much
faster we are depends on where sentences end.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dlarch.models.seq2seq.transformer import DecoderLayer, Transformer
from dlarch.nn import EncoderLayer, MultiHeadAttention
from dlarch.processing.translation import pad
from dlarch.spec import BOS, EOS, PAD

pytestmark = pytest.mark.benchmark

VOCABULARY, SENTENCES, ROUNDS = 5893, 40, 5
MAX_LENGTH = 20
CASES = {
    "pre-norm, all 20 tokens long": ("pre", 0.0),
    "post-norm, all 20 tokens long": ("post", 0.0),
    "pre-norm, up to 20 tokens long": ("pre", 11.0),
}
"""Which normalisation, and by how much the logit of the end is raised: by 11, half of the sentences
end before the limit."""


def transformer(norm: str, end: float) -> Transformer:
    """A model of random weights that is sure enough for rounding to decide nothing."""
    torch.manual_seed(0)
    model = Transformer(VOCABULARY, VOCABULARY, norm=norm, positions=64).eval()
    with torch.no_grad():
        model.output.weight.mul_(10)
        model.output.bias[EOS] = end
        model.output.bias[[PAD, BOS]] = -1e4  # our search forbids them
    return model


def of_transformers(ours: Transformer) -> nn.Module:
    """The same model as transformers has it."""
    library = pytest.importorskip("transformers")
    options = ours.hparams
    before = options.norm == "pre"
    config = library.MBartConfig if before else library.BartConfig
    make = library.MBartForConditionalGeneration if before else library.BartForConditionalGeneration
    model = make(
        config(
            vocab_size=VOCABULARY,
            d_model=options.hidden_size,
            encoder_layers=options.layers,
            decoder_layers=options.layers,
            encoder_attention_heads=options.heads,
            decoder_attention_heads=options.heads,
            encoder_ffn_dim=options.feedforward_size,
            decoder_ffn_dim=options.feedforward_size,
            activation_function="relu",
            scale_embedding=True,
            max_position_embeddings=options.positions,
            tie_word_embeddings=False,
            pad_token_id=PAD,
            bos_token_id=BOS,
            eos_token_id=EOS,
            decoder_start_token_id=BOS,
            forced_eos_token_id=None,
        )
    ).eval()
    for side in ("encoder", "decoder"):
        copy_side(getattr(model.model, side), ours, side)
    model.lm_head.weight = nn.Parameter(ours.output.weight.detach())
    model.final_logits_bias.copy_(ours.output.bias.detach())
    return model


@torch.no_grad()
def copy_side(theirs: nn.Module, ours: Transformer, side: str) -> None:
    """Take over the weights of encoder or decoder."""
    language = "source" if side == "encoder" else "target"
    embedding = getattr(ours, f"{language}_embedding")
    theirs.embed_tokens.weight = nn.Parameter(embedding.weight.detach())
    theirs.embed_positions.weight[2:] = getattr(ours, f"{language}_positions").vectors
    theirs.layernorm_embedding = nn.Identity()
    for one, other in zip(theirs.layers, getattr(ours, side), strict=True):
        copy_layer(one, other)
    if ours.hparams.norm == "pre":
        theirs.layer_norm.load_state_dict(getattr(ours, f"{side}_norm").state_dict())


def copy_layer(theirs: nn.Module, ours: EncoderLayer | DecoderLayer) -> None:
    """Take over the weights of a layer."""
    copy_attention(theirs.self_attn, ours.attention)
    pairs = [
        (theirs.self_attn_layer_norm, ours.around_attention.norm),
        (theirs.fc1, ours.network[0]),
        (theirs.fc2, ours.network[-1]),
        (theirs.final_layer_norm, ours.around_network.norm),
    ]
    if hasattr(ours, "cross"):
        copy_attention(theirs.encoder_attn, ours.cross)
        pairs.append((theirs.encoder_attn_layer_norm, ours.around_cross.norm))
    for one, other in pairs:
        one.load_state_dict(other.state_dict())


def copy_attention(theirs: nn.Module, ours: MultiHeadAttention) -> None:
    """Take over the weights of an attention."""
    layers = (theirs.q_proj, theirs.k_proj, theirs.v_proj)
    for layer, weight, bias in zip(layers, ours.in_parts(), ours.in_bias.chunk(3), strict=True):
        layer.load_state_dict({"weight": weight, "bias": bias})
    theirs.out_proj.load_state_dict(ours.output.state_dict())


def seconds(decode: Callable[[], object]) -> float:
    start = time.thread_time()
    decode()
    return time.thread_time() - start


def until_the_end(tokens: Tensor) -> Tensor:
    """Tokens (B, T) as (B, MAX_LENGTH), padding after the end."""
    beyond = (tokens == EOS).cumsum(1) - (tokens == EOS).long() > 0
    missing = MAX_LENGTH - tokens.shape[1]
    return nn.functional.pad(tokens.masked_fill(beyond, PAD), (0, missing), value=PAD)


@pytest.mark.parametrize("case", CASES)
@torch.inference_mode()
def test_decoding_speed(case: str):
    ours = transformer(*CASES[case])
    theirs = of_transformers(ours)
    random = np.random.default_rng(2)
    lengths = random.integers(8, 21, SENTENCES)
    sources = pad([[*random.integers(4, VOCABULARY, n).tolist(), EOS] for n in lengths])
    options = {
        "attention_mask": (sources != PAD).long(),
        "max_new_tokens": MAX_LENGTH,
        "do_sample": False,
    }
    search = {"early_stopping": True, "length_penalty": 1.0}
    print(f"\n{SENTENCES} sentences, {case}:")
    for beam in (1, 5):

        def our_way(beam=beam):
            return ours.search(sources, beam=beam, max_length=MAX_LENGTH).tokens[:, 0]

        def their_way(beam=beam):
            more = search if beam > 1 else {}
            return theirs.generate(sources, num_beams=beam, **options, **more)[:, 1:]

        tokens = until_the_end(our_way())
        assert torch.equal(tokens, until_the_end(their_way()))
        times = [(seconds(their_way), seconds(our_way)) for _ in range(ROUNDS)]
        ratio = median(slow / fast for slow, fast in times)
        rate = SENTENCES / median(fast for _, fast in times)
        name = "greedy" if beam == 1 else f"beam search with {beam} hypotheses"
        words = float((tokens != PAD).sum(1).float().mean())
        print(f"{name}: {rate:.0f} sentences/s of {words:.1f} tokens, {ratio:.2f} times generate's")
    assert ratio >= 1.5

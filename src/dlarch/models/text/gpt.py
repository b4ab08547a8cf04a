"""GPT: a decoder-only Transformer that writes texts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn, optim
from torch.nn import functional as F  # noqa: N812

from dlarch.decoding import map_tensors
from dlarch.errors import DataError, MismatchError, OptionError, check_at_least_1
from dlarch.nn import LearnedPositions, MultiHeadAttention
from dlarch.registry import register_model
from dlarch.spec import PAD
from dlarch.tasks import (
    Given,
    InitializerCallable,
    LanguageModel,
    LossCallable,
    OptimizerCallable,
    SchedulerCallable,
)


class Past(NamedTuple):
    """What is kept of the P tokens read so far, so that none is computed twice.

    Attributes:
        tokens: (B, K, P).
        keys: of each block's attention, (B, K, heads, P, D).
        values: the same.
    """

    tokens: Tensor
    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]


class Block(nn.Module):
    """Attention to earlier positions, then a network at each position, both added to the input.

    Args:
        size: of a position, E.
        heads: of the attention.
        dropout: share of what is added, and of attention weights, set to zero in training.
    """

    def __init__(self, size: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(size)
        self.attention = MultiHeadAttention(size, heads, dropout)
        self.network_norm = nn.LayerNorm(size)
        self.network = nn.Sequential(
            nn.Linear(size, 4 * size), nn.GELU(approximate="tanh"), nn.Linear(4 * size, size)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """T new positions (B, T, E), and the keys and values (B, heads, P + T, D) with theirs."""
        query, *new = self.attention.parts(self.attention_norm(x))
        if keys.shape[2]:
            keys, values = (torch.cat(pair, 2) for pair in zip((keys, values), new, strict=True))
        else:
            keys, values = new
        found = self.attention.attend(query, keys, values, causal=True).values
        x = x + self.dropout(found)
        x = x + self.dropout(self.network(self.network_norm(x)))
        return x, keys, values


@register_model("gpt", paper="1706.03762")
class GPT(LanguageModel):
    r"""Let each token look at all those before it, layer by layer, and predict the next one.

    Tokens are embedded, and a learned vector says where each stands. A block adds to its input what
    each position finds at itself and earlier ones, then what a network of one hidden layer makes
    of each; what goes into both is normalised (pre-norm):

    $$x' = x + \mathrm{MHA}(\mathrm{LN}(x)) \qquad
      x'' = x' + W_2\, \mathrm{GELU}(W_1 \mathrm{LN}(x') + b_1) + b_2$$

    $$p(x_{t+1} \mid x_1 \dots x_t) = \mathrm{softmax}(E\, \mathrm{LN}(h_t))$$

    with the embedding E again as the output layer. It is the layout of GPT-2, and `from_gpt2`
    takes its weights. A known text is read in one go. When it writes, keys and values of the
    tokens before are kept, so a token costs the same however long the text is; when all positions
    are used up, the later half of them is read anew as a beginning.

    Shapes: tokens (B, T) -> positions (B, T, E) -> logits (B, T, V).

    Differences from the paper: (1) the decoder alone, without a source; (2) learned positions,
    pre-norm and GELU, as in GPT-2; (3) small by default, 4 blocks of 128 dimensions.

    Expected: see docs/models/gpt.md, `dlarch fit --config recipes/gpt.yaml`.

    Args:
        vocab_size: number of token ids, V. Taken from the data when not given.
        hidden_size: dimensions of a position, E; a multiple of `heads`.
        layers: blocks.
        heads: of each attention.
        positions: most tokens that are looked at.
        dropout: share of embeddings, of attention weights and of what is added, set to zero in
            training.
        loss: called with logits (n, V) and targets (n,) of real tokens; a mean over them.
        optimizer: called with the parameters.
        scheduler: called with the optimizer; steps after each optimizer step.
        initializer: of the weights of all layers but embeddings; that of GPT-2 when not given.
        pictures: write texts and draw units at each validation.
    """

    carries_state = False
    context: int

    def __init__(
        self,
        vocab_size: int | None = None,
        hidden_size: int = 128,
        layers: int = 4,
        heads: int = 4,
        positions: int = 256,
        dropout: float = 0.0,
        loss: LossCallable = F.cross_entropy,
        optimizer: OptimizerCallable = lambda parameters: optim.Adam(parameters, lr=1e-3),
        scheduler: SchedulerCallable | None = None,
        initializer: InitializerCallable | None = None,
        pictures: bool = True,
    ) -> None:
        super().__init__(
            loss=loss,
            optimizer=optimizer,
            scheduler=scheduler,
            initializer=initializer,
            pictures=pictures,
        )
        check_at_least_1(hidden_size=hidden_size, layers=layers, heads=heads)
        if positions < 2:
            raise OptionError(f"positions must be at least 2, not {positions}.")
        self.context = positions
        self.save_hyperparameters()
        self.build_if_known()

    def build(self, vocab_size: int) -> None:
        """Make the layers, in the order in which data meet them."""
        options = self.hparams
        size = options.hidden_size
        self.embedding = nn.Embedding(vocab_size, size, padding_idx=PAD)
        self.positions = LearnedPositions(options.positions, size)
        self.dropout = nn.Dropout(options.dropout)
        self.blocks = nn.ModuleList(
            Block(size, options.heads, options.dropout) for _ in range(options.layers)
        )
        self.norm = nn.LayerNorm(size)
        self._draw()

    @torch.no_grad()
    def _draw(self) -> None:
        """Draw as GPT-2 does: what each block adds is smaller the more there are."""
        for name, parameter in self.named_parameters():
            if parameter.dim() > 1:
                adds = name.endswith(("attention.output.weight", "network.2.weight"))
                parameter.normal_(std=0.02 / (2 * self.hparams.layers) ** 0.5 if adds else 0.02)
            elif name.endswith("bias"):
                parameter.zero_()

    def start(self, count: int) -> Past:
        """Nothing, (B, 1, heads, 0, D)."""
        options, weight = self.hparams, self.embedding.weight
        shape = (count, 1, options.heads, 0, options.hidden_size // options.heads)
        nothing = (weight.new_zeros(shape),) * options.layers
        tokens = torch.zeros((count, 1, 0), dtype=torch.long, device=weight.device)
        return Past(tokens, nothing, nothing)

    def read(self, tokens: Tensor, state: Past, given: Given) -> tuple[Tensor, Past]:
        """Features (B, T, E) of tokens that follow those of the state."""
        features, past = self._extend(tokens, map_tensors(lambda part: part[:, 0], state))
        return features, map_tensors(lambda part: part[:, None], past)

    def advance(self, token: Tensor, state: Past, given: Given) -> tuple[Tensor, Past]:
        """Features (B, K, E) after one more token of each hypothesis."""
        past = map_tensors(lambda part: part.flatten(0, 1), state)
        if past.tokens.shape[1] == self.context:
            later = past.tokens[:, self.context - self.context // 2 :]
            nothing = map_tensors(lambda part: part[:, 0], self.start(len(later)))
            past = self._extend(later, nothing)[1]
        features, past = self._extend(token.flatten()[:, None], past)
        back = map_tensors(lambda part: part.unflatten(0, token.shape), past)
        return features[:, 0].unflatten(0, token.shape), back

    def _extend(self, tokens: Tensor, past: Past) -> tuple[Tensor, Past]:
        """Features (R, T, E) of new tokens, and what is kept of all; without K."""
        before, count = past.tokens.shape[1], tokens.shape[1]
        most = self.hparams.positions
        if before + count > most:
            raise DataError(
                f"{before + count} tokens are more than the {most} positions of this model:"
                " use a smaller --data.window or --data.max_length, or train a model with more "
                "--model.positions."
            )
        at = torch.arange(before, before + count, device=tokens.device)
        x = self.dropout(self.positions(self.embedding(tokens), at))
        keys, values = list(past.keys), list(past.values)
        for place, block in enumerate(self.blocks):
            x, keys[place], values[place] = block(x, keys[place], values[place])
        read = torch.cat((past.tokens, tokens), dim=1)
        return self.norm(x), Past(read, tuple(keys), tuple(values))

    def project(self, features: Tensor) -> Tensor:
        """Features (..., E) to logits (..., V)."""
        return F.linear(features, self.embedding.weight)

    @classmethod
    def from_gpt2(cls, weights: Mapping[str, Tensor], heads: int | None = None) -> GPT:
        """A model with the weights of GPT-2, as `transformers` names them.

        Ids are those of GPT-2's own vocabulary.

        Args:
            weights: state of a `GPT2Model` or `GPT2LMHeadModel`.
            heads: of each attention; one for 64 dimensions, as in all of GPT-2's sizes, when not
                given.

        Raises:
            MismatchError: they are weights of something else.
        """
        theirs = {name.removeprefix("transformer."): value for name, value in weights.items()}
        try:
            (vocab_size, size), positions = theirs["wte.weight"].shape, len(theirs["wpe.weight"])
        except KeyError as error:
            raise MismatchError(f"These are no weights of GPT-2: they lack {error}.") from None
        layers = sum(name.endswith("ln_1.weight") for name in theirs)
        model = cls(vocab_size, size, layers, heads or max(size // 64, 1), positions)
        renamed = {"embedding.weight": "wte.weight", "positions.vectors": "wpe.weight"}
        renamed |= {f"norm.{part}": f"ln_f.{part}" for part in ("weight", "bias")}
        parts = {
            "attention_norm.": "ln_1.", "attention.in_": "attn.c_attn.",
            "attention.output.": "attn.c_proj.", "network_norm.": "ln_2.",
            "network.0.": "mlp.c_fc.", "network.2.": "mlp.c_proj.",
        }  # fmt: skip
        for mine, their in parts.items():
            for block in range(layers):
                for part in ("weight", "bias"):
                    renamed[f"blocks.{block}.{mine}{part}"] = f"h.{block}.{their}{part}"
        state = {mine: theirs[their] for mine, their in renamed.items()}
        # Their linear layers hold the transposed matrix.
        linear = {name for name in renamed if ".c_" in renamed[name] and name.endswith("weight")}
        model.load_state_dict({n: v.T if n in linear else v for n, v in state.items()})
        return model

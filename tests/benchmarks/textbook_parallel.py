"""The encoder-decoders without recurrence as textbooks write them: masks and products in full."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from dlarch.models.seq2seq.conv_seq2seq import ConvSeq2Seq
from dlarch.models.seq2seq.transformer import DecoderLayer, Transformer
from dlarch.nn import EncoderLayer, MultiHeadAttention
from dlarch.spec import PAD


class TextbookConvolutions(nn.Module):
    """Gated convolutions over (B, N, T), turned for each attention and each linear layer."""

    def __init__(self, ours: ConvSeq2Seq) -> None:
        super().__init__()
        options = ours.hparams
        size, hidden = options.embedding_size, options.hidden_size
        self.width = options.kernel_size
        self.scale = math.sqrt(0.5)
        self.source_embedding = nn.Embedding(options.source_vocab_size, size)
        self.target_embedding = nn.Embedding(options.target_vocab_size, size)
        self.source_places = nn.Embedding(options.positions, size)
        self.target_places = nn.Embedding(options.positions, size)
        self.encoder_input, self.decoder_input = nn.Linear(size, hidden), nn.Linear(size, hidden)
        self.encoder_output, self.decoder_output = nn.Linear(hidden, size), nn.Linear(hidden, size)
        around = self.width // 2
        self.encoder = nn.ModuleList(
            nn.Conv1d(hidden, 2 * hidden, self.width, padding=around) for _ in ours.encoder
        )
        self.decoder = nn.ModuleList(
            nn.Conv1d(hidden, 2 * hidden, self.width) for _ in ours.decoder
        )
        self.query = nn.ModuleList(nn.Linear(hidden, size) for _ in ours.decoder)
        self.found = nn.ModuleList(nn.Linear(size, hidden) for _ in ours.decoder)
        self.output = nn.Linear(size, options.target_vocab_size)
        self.copy(ours)

    @torch.no_grad()
    def copy(self, ours: ConvSeq2Seq) -> None:
        """Take over the weights."""
        self.source_places.weight.copy_(ours.source_positions.vectors)
        self.target_places.weight.copy_(ours.target_positions.vectors)
        self.query.load_state_dict(nn.ModuleList(a.query for a in ours.attention).state_dict())
        self.found.load_state_dict(nn.ModuleList(a.output for a in ours.attention).state_dict())
        for name, layer in self.named_children():
            if name not in ("source_places", "target_places", "query", "found"):
                layer.load_state_dict(getattr(ours, name).state_dict())

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        """Logits (B, T, V) of the token after each target token fed."""
        keys, values = self.read(source)
        unseen = (source == PAD)[:, None]
        embedded = self.target_embedding(target) + self.target_places(_places(target))
        x = self.decoder_input(embedded).permute(0, 2, 1)
        for convolution, query, found in zip(self.decoder, self.query, self.found, strict=True):
            before = x.new_zeros(x.shape[0], x.shape[1], self.width - 1)
            gated = F.glu(convolution(torch.cat((before, x), dim=2)), dim=1)
            asked = (query(gated.permute(0, 2, 1)) + embedded) * self.scale
            energy = torch.matmul(asked, keys.permute(0, 2, 1))
            weights = energy.masked_fill(unseen, -1e10).softmax(dim=2)
            answer = found(torch.matmul(weights, values)).permute(0, 2, 1)
            x = ((gated + answer) * self.scale + x) * self.scale
        logits: Tensor = self.output(self.decoder_output(x.permute(0, 2, 1)))
        return logits

    def read(self, source: Tensor) -> tuple[Tensor, Tensor]:
        """The encoder's last layer (B, S, E), and with the embedded tokens added."""
        embedded = self.source_embedding(source) + self.source_places(_places(source))
        padding = (source == PAD)[:, None]
        x = self.encoder_input(embedded).permute(0, 2, 1)
        for convolution in self.encoder:
            gated = F.glu(convolution(x.masked_fill(padding, 0)), dim=1)
            x = (gated + x) * self.scale
        keys = self.encoder_output(x.permute(0, 2, 1))
        return keys, (keys + embedded) * self.scale


class TextbookAttention(nn.Module):
    """Attention of several heads, each of its four products for itself."""

    def __init__(self, ours: MultiHeadAttention) -> None:
        super().__init__()
        size, self.heads = ours.output.in_features, ours.heads
        self.query, self.key, self.value = (nn.Linear(size, size) for _ in range(3))
        self.output = nn.Linear(size, size)
        with torch.no_grad():
            for layer, weight, bias in zip(
                (self.query, self.key, self.value),
                ours.in_parts(),
                ours.in_bias.chunk(3),
                strict=True,
            ):
                layer.weight.copy_(weight)
                layer.bias.copy_(bias)
        self.output.load_state_dict(ours.output.state_dict())

    def forward(self, query: Tensor, memory: Tensor, mask: Tensor) -> Tensor:
        """Positions (B, T, E) to what they find in (B, S, E), where the mask is True."""
        count, _, size = query.shape
        asked, keys, values = (
            part.view(count, -1, self.heads, size // self.heads).permute(0, 2, 1, 3)
            for part in (self.query(query), self.key(memory), self.value(memory))
        )
        energy = torch.matmul(asked, keys.permute(0, 1, 3, 2)) / math.sqrt(size // self.heads)
        weights = energy.masked_fill(~mask, -1e10).softmax(dim=-1)
        found = torch.matmul(weights, values).permute(0, 2, 1, 3).contiguous()
        answer: Tensor = self.output(found.view(count, -1, size))
        return answer


class TextbookLayer(nn.Module):
    """A layer of encoder or decoder, with layer normalisation before or after."""

    def __init__(self, ours: EncoderLayer | DecoderLayer) -> None:
        super().__init__()
        self.before = ours.around_network.before
        around = [ours.around_attention, ours.around_network]
        self.attention = TextbookAttention(ours.attention)
        if hasattr(ours, "cross"):
            self.cross = TextbookAttention(ours.cross)
            around.insert(1, ours.around_cross)
        first, second = ours.network[0], ours.network[-1]
        self.first = nn.Linear(first.in_features, first.out_features)
        self.second = nn.Linear(second.in_features, second.out_features)
        self.first.load_state_dict(first.state_dict())
        self.second.load_state_dict(second.state_dict())
        self.norms = nn.ModuleList(nn.LayerNorm(first.in_features) for _ in around)
        self.norms.load_state_dict(nn.ModuleList(part.norm for part in around).state_dict())

    def forward(
        self,
        x: Tensor,
        mask: Tensor,
        memory: Tensor | None = None,
        memory_mask: Tensor | None = None,
    ) -> Tensor:
        """Positions (B, T, E) to the next layer's."""
        parts = [lambda y: self.attention(y, y, mask)]
        if memory is not None:
            parts.append(lambda y: self.cross(y, memory, memory_mask))
        parts.append(lambda y: self.second(self.first(y).relu()))
        for part, norm in zip(parts, self.norms, strict=True):
            x = x + part(norm(x)) if self.before else norm(x + part(x))
        return x


class TextbookTransformer(nn.Module):
    """Attention by products and masks, waves from a table."""

    def __init__(self, ours: Transformer) -> None:
        super().__init__()
        options = ours.hparams
        size = options.hidden_size
        self.scale = math.sqrt(size)
        self.source_embedding = nn.Embedding(options.source_vocab_size, size)
        self.target_embedding = nn.Embedding(options.target_vocab_size, size)
        self.output = nn.Linear(size, options.target_vocab_size)
        before = options.norm == "pre"
        self.encoder_norm = nn.LayerNorm(size) if before else nn.Identity()
        self.decoder_norm = nn.LayerNorm(size) if before else nn.Identity()
        for name, layer in self.named_children():
            layer.load_state_dict(getattr(ours, name).state_dict())
        self.encoder = nn.ModuleList(TextbookLayer(layer) for layer in ours.encoder)
        self.decoder = nn.ModuleList(TextbookLayer(layer) for layer in ours.decoder)
        places = torch.arange(100.0)[:, None]
        angles = places * torch.exp(torch.arange(0, size, 2) * (-math.log(10000.0) / size))
        waves = torch.zeros(100, size)
        waves[:, 0::2], waves[:, 1::2] = angles.sin(), angles.cos()
        self.register_buffer("waves", waves)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        """Logits (B, T, V) of the token after each target token fed."""
        source_mask = (source != PAD)[:, None, None]
        x = self.source_embedding(source) * self.scale + self.waves[: source.shape[1]]
        for layer in self.encoder:
            x = layer(x, source_mask)
        memory = self.encoder_norm(x)
        length = target.shape[1]
        earlier = torch.ones(length, length, dtype=torch.bool).tril()
        target_mask = (target != PAD)[:, None, None] & earlier
        y = self.target_embedding(target) * self.scale + self.waves[:length]
        for layer in self.decoder:
            y = layer(y, target_mask, memory, source_mask)
        logits: Tensor = self.output(self.decoder_norm(y))
        return logits


def _places(tokens: Tensor) -> Tensor:
    """Where tokens (B, T) stand."""
    return torch.arange(tokens.shape[1]).expand(len(tokens), -1)

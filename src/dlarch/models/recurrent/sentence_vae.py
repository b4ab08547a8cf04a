"""Sentence VAE: a language model whose sentences have a code with a known distribution."""

from __future__ import annotations

import torch
from torch import Tensor, nn, optim

from dlarch.errors import OptionError
from dlarch.models.recurrent.lstm_autoencoder import SentenceDecoder, SentenceEncoder
from dlarch.nn import gaussian_kl
from dlarch.registry import register_model
from dlarch.spec import BOS, PAD, UNK
from dlarch.tasks import (
    Annealing,
    Bound,
    InitializerCallable,
    LatentText,
    OptimizerCallable,
    Posterior,
    Schedule,
    SchedulerCallable,
)


@register_model("sentence_vae", paper="1511.06349")
class SentenceVAE(LatentText):
    r"""Read a sentence into a Gaussian over codes; write the sentence from one draw of it.

    Maximises a lower bound of log p(x), in nats, summed over the tokens of a sentence and averaged
    over sentences:

    $$\log p(x) \ge E_{q(z|x)} \sum_t \log p(x_{t+1} \mid x_1 \dots x_t, z)
      - \sum_d KL(q(z_d|x) \,\|\, N(0, 1))$$

    Mean and log variance of q are linear in the last states of the encoder; the draw is written
    z = mean + std * noise. The decoder begins with the code and reads it at each step. It can also
    do without: then q becomes the prior, the KL term 0, and all that is left is a language model.
    Three means work against this collapse. The KL term is multiplied by a weight w that rises
    from 0 to 1 (annealing). Words that the decoder reads are replaced by "unknown" at random (word
    dropout). And the first nats of each dimension are free:

    $$L = E_q [-\log p(x|z)] + w \sum_d \max(\lambda, \tfrac{1}{B} \sum_b KL_{bd})$$

    Shapes: tokens (B, T) -> states (B, 2N) -> mean and log variance (B, D) -> code (B, D) -> logits
    (B, T - 1, V).

    Differences from the paper: (1) the encoder reads in both directions; (2) the decoder reads the
    code at each step, not only before the first; (3) free bits per dimension (Kingma et al.,
    1606.04934), on the mean over the batch; (4) other courses of the weight beside the logistic.

    Expected: on 5,000 captions test/kl 2.90 and test/nll_is100 47.84 with free nats, 0.004 and
    47.60 without (seed 1), `dlarch sweep --config recipes/sweeps/sentence_vae.yaml`.

    Args:
        vocab_size: number of token ids, V. Taken from the data when not given.
        embedding_size: E.
        hidden_size: units of the decoder, and of each direction of the encoder, N.
        code_size: dimensions of the code, D.
        dropout: share of embeddings and of the decoder's states set to zero in training.
        word_dropout: share of the words the decoder reads in training that become unknown.
        annealing: how the weight of the KL term rises: "none" (1 at once), "linear", "logistic", or
            "cyclical" (1903.10145), which begins again and again.
        annealing_steps: optimizer steps until it is 1, or of a cycle.
        free_nats: lambda, of each dimension.
        optimizer: called with the parameters.
        scheduler: called with the optimizer; steps after each optimizer step.
        initializer: of all weights but the embeddings; torch's own when not given.
        pictures: write reconstructions, interpolations and new texts at each validation.
    """

    def __init__(
        self,
        vocab_size: int | None = None,
        embedding_size: int = 128,
        hidden_size: int = 256,
        code_size: int = 32,
        dropout: float = 0.0,
        word_dropout: float = 0.25,
        annealing: Schedule = "linear",
        annealing_steps: int = 2000,
        free_nats: float = 0.1,
        optimizer: OptimizerCallable = lambda parameters: optim.Adam(parameters, lr=1e-3),
        scheduler: SchedulerCallable | None = None,
        initializer: InitializerCallable | None = None,
        pictures: bool = True,
    ) -> None:
        super().__init__(
            annealing=Annealing(annealing, annealing_steps),
            free_nats=free_nats,
            optimizer=optimizer,
            scheduler=scheduler,
            initializer=initializer,
            pictures=pictures,
        )
        if not 0 <= word_dropout <= 1:
            raise OptionError(f"word_dropout is a share, 0 to 1, not {word_dropout}.")
        if free_nats < 0:
            raise OptionError(f"free_nats must be 0 or more, not {free_nats}.")
        self.save_hyperparameters()
        self.build_if_known()

    def build(self, vocab_size: int) -> None:
        """Make the layers, in the order in which data meet them."""
        options = self.hparams
        sizes = (vocab_size, options.embedding_size, options.hidden_size)
        self.encoder = SentenceEncoder(*sizes, "lstm", options.dropout)
        self.mean = nn.Linear(2 * options.hidden_size, options.code_size)
        self.log_variance = nn.Linear(2 * options.hidden_size, options.code_size)
        self.decoder = SentenceDecoder(*sizes, options.code_size, options.dropout)

    def posterior(self, tokens: Tensor) -> Posterior:
        """q(z|x) of sentences (B, T): mean and log variance, each (B, D)."""
        states = self.encoder(tokens)
        return Posterior(self.mean(states).float(), self.log_variance(states).float())

    def bound(self, tokens: Tensor, noise: Tensor) -> Bound:
        """Reconstruction (B,) and KL (B, D) of sentences (B, T), with noise (B, D) for the draw."""
        posterior = self.posterior(tokens)
        fed = self._without_some_words(tokens[:, :-1])
        reconstruction = self.nats(tokens, posterior.code(noise), fed)
        return Bound(reconstruction, gaussian_kl(*posterior), posterior)

    def _without_some_words(self, tokens: Tensor) -> Tensor:
        """What the decoder is fed: in training a share of the words is unknown."""
        if not self.training or not self.hparams.word_dropout:
            return tokens
        gone = torch.rand(tokens.shape, device=tokens.device) < self.hparams.word_dropout
        return tokens.masked_fill(gone & (tokens != BOS) & (tokens != PAD), UNK)

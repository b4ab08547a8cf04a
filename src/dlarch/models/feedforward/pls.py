"""Partial least squares: a linear network through a few scores that vary with the targets."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dlarch.errors import OptionError, check_at_least_1
from dlarch.registry import register_model
from dlarch.tasks import ClosedForm, Moments

RANK_TOLERANCE = 1e-12
"""A score of less than this share of the variance of the inputs is taken for none."""


@register_model("pls", aliases=("partial_least_squares",))
class PLS(ClosedForm):
    r"""Predict numbers from a few scores of the inputs that vary most with the targets.

    A network of two linear layers with A units between them, the components:

    $$t = R^\top (x - \bar x) \qquad \hat y = Q t + \bar y$$

    Component a has the unit vector w whose score has the largest covariance with the targets; what
    the score explains is taken out of X and Y, and the next component works on the rest:

    $$w_a \propto \arg\max_{\|w\| = 1} \|Y^\top X w\| \qquad t_a = X w_a \qquad
    p_a = \frac{X^\top t_a}{t_a^\top t_a} \qquad q_a = \frac{Y^\top t_a}{t_a^\top t_a} \qquad
    X \leftarrow X - t_a p_a^\top \qquad Y \leftarrow Y - t_a q_a^\top$$

    Neither w nor p nor q needs more of the rows than X'X and X'Y, from which all is computed. With
    as many components as inputs it is ordinary least squares. Scaling is left to the data module:
    normalised data (the default) give scikit-learn's `PLSRegression(scale=True)`,
    `--data.normalize false` gives `scale=False`.

    H. Wold (1975), Soft modelling by latent variables: the non-linear iterative partial least
    squares approach.

    Differences from the paper: (1) cross-products are deflated in place of the rows, with the same
    result (Dayal and MacGregor, Improved PLS algorithms, 1997); (2) w is the first singular vector
    of X'Y, which the paper's inner iteration converges to.

    Shapes: inputs (B, F) -> scores (B, A) -> numbers (B, O).

    Expected: test/rmse 55.52 on diabetes (no randomness), `dlarch fit --config recipes/pls.yaml`;
    see docs/models/pls.md.

    Args:
        in_features: numbers per input, F.
        out_features: number of numbers to predict, O.
        components: A, number of scores; at most F.
        pictures: draw predictions at each validation.
    """

    def __init__(
        self,
        in_features: int | None = None,
        out_features: int | None = None,
        components: int = 2,
        pictures: bool = True,
    ) -> None:
        super().__init__(pictures=pictures)
        check_at_least_1(components=components)
        self.save_hyperparameters()
        self.build_if_known()

    def build(self, in_features: int, out_features: int) -> None:
        """Make the two layers, which start at zero."""
        count = self.hparams.components
        if count > in_features:
            raise OptionError(
                f"components must be at most the number of inputs, {in_features}, not {count}."
            )
        self.scores = nn.Linear(in_features, count)
        self.output = nn.Linear(count, out_features)
        for parameter in self.parameters():
            nn.init.zeros_(parameter)

    def forward(self, inputs: Tensor) -> Tensor:
        """Inputs (B, F) to numbers (B, O)."""
        outputs: Tensor = self.output(self.scores(self.features(inputs)))
        return outputs

    def learn(self, seen: Moments, batch: Moments) -> None:
        """Find the components of all rows seen."""
        rotation, loadings = partial_least_squares(seen.xx, seen.xy, self.hparams.components)
        self.scores.weight.copy_(rotation.T)
        self.scores.bias.copy_(-seen.x_mean @ rotation)
        self.output.weight.copy_(loadings)
        self.output.bias.copy_(seen.y_mean)


def partial_least_squares(xx: Tensor, xy: Tensor, components: int) -> tuple[Tensor, Tensor]:
    """The two layers of PLS from the cross-products of centred rows.

    Args:
        xx: X'X, (F, F).
        xy: X'Y, (F, O).
        components: A. Those that nothing is left for are zero.

    Returns:
        R (F, A), which makes scores of inputs, and Q (O, A), which makes targets of scores.
    """
    rotation = xx.new_zeros(len(xx), components)
    loadings_x = torch.zeros_like(rotation)
    loadings_y = xx.new_zeros(xy.shape[1], components)
    left = xy  # of X'Y, by the components so far
    for a in range(components):
        direction = torch.linalg.svd(left, full_matrices=False).U[:, 0]
        # The direction was found in the deflated X; this one gives the same score from X itself.
        whole = direction - rotation[:, :a] @ (loadings_x[:, :a].T @ direction)
        square = whole @ xx @ whole
        if square <= RANK_TOLERANCE * xx.trace() or left.norm() <= RANK_TOLERANCE * xy.norm():
            break
        rotation[:, a] = whole
        loadings_x[:, a] = xx @ whole / square
        loadings_y[:, a] = xy.T @ whole / square
        left = left - square * loadings_x[:, a].outer(loadings_y[:, a])
    return rotation, loadings_y

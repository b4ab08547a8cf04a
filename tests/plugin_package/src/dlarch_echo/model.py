"""Two models of the echo problem."""

from torch import Tensor, nn, optim

from dlarch import register_model
from dlarch.tasks import OptimizerCallable

from .task import Echo


@register_model("echo_linear", paper="0000.00000", aliases=("echo",))
class EchoLinear(Echo):
    """Repeat a vector through one linear layer.

    Args:
        in_features: length of the vector. Taken from the data when not given.
        bias: add one.
        optimizer: called with the parameters.
    """

    def __init__(
        self,
        in_features: int | None = None,
        bias: bool = True,
        optimizer: OptimizerCallable = lambda parameters: optim.SGD(parameters, lr=0.1),
    ) -> None:
        super().__init__(optimizer=optimizer)
        self.bias = bias
        self.save_hyperparameters()
        self.build_if_known()

    def build(self, in_features: int) -> None:
        """One layer."""
        self.layer = nn.Linear(in_features, in_features, bias=self.bias)

    def forward(self, vector: Tensor) -> Tensor:
        """Vector (B, F) to its echo (B, F)."""
        return self.layer(vector)


class EchoScaled(EchoLinear):
    """Repeat a vector; registered by its entry point alone."""

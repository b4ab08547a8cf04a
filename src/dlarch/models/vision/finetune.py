"""Fine-tuning: a new head on a network that was trained before, on more data."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from torch import Tensor, nn, optim
from torch.optim import Optimizer

from dlarch.errors import OptionError
from dlarch.models.vision.bodies import find_body
from dlarch.nn import (
    default_initializer,
    initialize,
    layer_groups,
    layers_up_to,
)
from dlarch.registry import register_model
from dlarch.tasks import (
    InitializerCallable,
    LossCallable,
    OptimizerCallable,
    SchedulerCallable,
    Supervised,
)

logger = logging.getLogger(__name__)


@register_model("finetune", paper="1411.1792")
class Finetune(Supervised):
    r"""Cut the last layers off a trained network, and train new ones on other classes.

    The body $g_\phi$ is a network of torchvision trained on ImageNet, or any dlarch model of images
    that was trained before; its output layer, or more, is left out, and of an autoencoder the
    decoder. The head is a small MLP:

    $$h_0 = g_\phi(x) \qquad h_l = \max(0, W_l h_{l-1} + b_l) \qquad \hat y = W_L h_{L-1} + b_L$$

    $\phi$ starts where the earlier training ended. All of it may be frozen, or the part up to a
    layer, for good or until an epoch: frozen layers are not trained and stay in eval mode, so that
    batch normalisation keeps its means. Where it learns, it may learn more slowly than the head
    (rate $\eta$), and the more so the nearer the input (1801.06146): group k of K learns at

    $$\eta_k = \eta \cdot \mathrm{body\_lr} \cdot \mathrm{body\_lr\_decay}^{K - k}$$

    The body gets images as it was trained on them: in its size and channels, and if the data module
    normalised them by other means and deviations, they are normalised anew.

    Shapes: image (B, C, H, W) -> features (B, F) -> logits (B, K).

    J. Yosinski et al. (2014), How transferable are features in deep neural networks?

    Differences from the paper: (1) any body, not one AlexNet cut at each of its layers; (2) the new
    layers are a small MLP, not copies of those cut off; (3) layers may be unfrozen later, and learn
    at rates of their own; (4) Adam instead of SGD with momentum.

    Expected: test/accuracy 0.637 +- 0.010 (3 seeds) on five classes of CIFAR-10 from 100 images,
    0.572 +- 0.008 from scratch, `dlarch fit --config recipes/finetune_cifar10.yaml`; see
    docs/models/finetune.md.

    Args:
        image_shape: (C, H, W). Taken from the data when not given.
        num_classes: number of classes, K. Taken from the data when not given.
        body: `resnet18`, `resnet34`, `resnet50`, `vgg16` or `vgg19` of torchvision; a run folder,
            checkpoint, pretrained folder or Hub id of a dlarch model; or, untrained, the name of a
            dlarch model, or its `name` with its arguments, which is what a saved model has here.
        weights: of a torchvision body: `DEFAULT`, `IMAGENET1K_V1` or another name of theirs, which
            is downloaded; random when not given.
        cut: first layer of the body that is left out, with all after it; its output layer when not
            given, or of an autoencoder what makes images of codes.
        resize: height and width that images are brought to for the body; when not given those that
            a dlarch body was trained on, for torchvision's those of the data, at least 32.
        head_sizes: units of the hidden layers of the head.
        freeze: do not train the body; or, up to and with a layer, its first layers.
        unfreeze_epoch: epoch, counted from 0, from which on all layers are trained.
        body_lr: learning rate of the body's last group of layers, as a share of the head's.
        body_lr_decay: learning rate of each group, as a share of that of the group after it.
        loss: called with logits (B, K) and labels (B,); cross-entropy when not given.
        optimizer: called with the parameters, in groups where their learning rates differ.
        scheduler: called with the optimizer; steps after each optimizer step.
        initializer: of the weights of the head; He when not given.
        pictures: draw confusion matrix and mistakes at each validation.
    """

    resolved_arguments: ClassVar[tuple[str, ...]] = ("body", "weights", "resize")

    def __init__(
        self,
        image_shape: tuple[int, int, int] | None = None,
        num_classes: int | None = None,
        body: dict[str, Any] | str = "resnet18",
        weights: str | None = None,
        cut: str | None = None,
        resize: int | tuple[int, int] | None = None,
        head_sizes: Sequence[int] = (),
        freeze: bool | str = False,
        unfreeze_epoch: int | None = None,
        body_lr: float = 1.0,
        body_lr_decay: float = 1.0,
        loss: LossCallable | None = None,
        optimizer: OptimizerCallable = lambda parameters: optim.Adam(parameters, lr=1e-3),
        scheduler: SchedulerCallable | None = None,
        initializer: InitializerCallable | None = None,
        pictures: bool = True,
    ) -> None:
        super().__init__(optimizer=optimizer, loss=loss, scheduler=scheduler, pictures=pictures)
        if min(body_lr, body_lr_decay) <= 0:
            raise OptionError("body_lr and body_lr_decay must be above 0; freeze stops the body.")
        self.head_initializer = initializer
        self._frozen: list[nn.Module] = []  # in a list, to be no part of the network
        self._drops_gradients = False
        self.save_hyperparameters()
        self.build_if_known()

    def build(self, image_shape: tuple[int, int, int], num_classes: int) -> None:
        """Find the body, cut off its last layers, and put a new head on it."""
        options = self.hparams
        self.body = find_body(
            options.body, options.weights, options.resize, image_shape, num_classes
        )
        if isinstance(self.body.network, Finetune):
            self.body.network.thaw()
        width = self.body.cut(options.cut, image_shape)
        self.head = nn.Sequential()
        for size in options.head_sizes:
            self.head.append(nn.Linear(width, size)).append(nn.ReLU())
            width = size
        self.head.append(nn.Linear(width, num_classes))
        initialize(self.head, self.head_initializer or default_initializer("relu"))
        self.freeze_body()
        if self.body.trained:  # a saved model has its weights, and must not ask for them again
            size = None if isinstance(self.body.makes, str) else tuple(self.body.size)
            options.update(body=self.body.makes, weights=None, resize=size or options.resize)

    def forward(self, image: Tensor) -> Tensor:
        """Images (B, C, H, W) to logits (B, K)."""
        logits: Tensor = self.head(self.body(image))
        return logits

    def configure_model(self) -> None:
        """Build from the data, tell the body how they are normalised, and freeze it for a fit."""
        super().configure_model()
        if self.processor is not None:
            values = self.processor.to_dict()
            self.body.expect(values["mean"], values["std"])
        if self.trainer.state.fn == "fit":
            self.freeze_body()

    # ---- what is trained, and how fast

    def freeze_body(self) -> None:
        """Freeze what is to be frozen at first."""
        self.thaw()
        freeze, network = self.hparams.freeze, self.body.network
        if freeze:
            self._frozen = [network] if freeze is True else layers_up_to(network, freeze)
        # Processes add up the gradients of those parameters alone that had one from the start.
        self._drops_gradients = (
            self._trainer is not None
            and self.trainer.world_size > 1
            and self.hparams.unfreeze_epoch is not None
        )
        for parameter in self._frozen_parameters():
            parameter.requires_grad_(self._drops_gradients)
        self.train()

    def _frozen_parameters(self) -> Iterator[nn.Parameter]:
        for layer in self._frozen:
            yield from layer.parameters()
        if self._frozen:  # the network's own, such as positions: they are added at its input
            yield from self.body.network.parameters(recurse=False)

    def thaw(self) -> None:
        """Let all layers be trained."""
        self._frozen = []
        self.requires_grad_(True)
        self.train(self.training)

    def train(self, mode: bool = True) -> Finetune:
        """Set training mode, but for frozen layers: they stay in eval mode."""
        super().train(mode)
        for layer in self._frozen:
            layer.eval()
        return self

    def on_fit_start(self) -> None:
        """Warn of random layers that are not to be trained."""
        super().on_fit_start()
        fresh = not self.body.trained and self.trainer.ckpt_path is None and not self.provenance
        if self.hparams.freeze and fresh:
            logger.warning(
                "The body has random weights and is frozen: give --model.weights DEFAULT, or as "
                "--model.body the run of a trained model."
            )

    def on_train_batch_start(self, *_: Any) -> None:
        """Unfreeze when it is time, also in a run that is resumed inside an epoch."""
        epoch = self.hparams.unfreeze_epoch
        if self._frozen and epoch is not None and self.current_epoch >= epoch:
            self.thaw()

    def on_after_backward(self) -> None:
        """Keep frozen layers as they are where they had to have gradients."""
        if self._drops_gradients:
            for parameter in self._frozen_parameters():
                parameter.grad = None

    def new_optimizer(self) -> Optimizer:
        """The optimizer over all that is ever trained: the head first, then the body downward."""
        groups = [list(self.head.parameters()), *reversed(layer_groups(self.body.network))]
        first, decay = self.hparams.body_lr, self.hparams.body_lr_decay
        shares = [1.0, *(first * decay**depth for depth in range(len(groups) - 1))]
        later = self.hparams.unfreeze_epoch is not None
        learning = [[p for p in group if p.requires_grad or later] for group in groups]
        if set(shares) == {1.0}:
            return self.make_optimizer([p for group in learning for p in group])
        named: Any = [
            {"params": group, "share": share}
            for group, share in zip(learning, shares, strict=True)
            if group
        ]
        optimizer = self.make_optimizer(named)
        for group in optimizer.param_groups:
            group["lr"] *= group["share"]
        return optimizer

    def configure_optimizers(self) -> Any:
        """The optimizer and the scheduler.

        Raises:
            OptionError: the scheduler gives all groups the same learning rate.
        """
        plan = super().configure_optimizers()
        if isinstance(plan, dict):
            first, *others = plan["optimizer"].param_groups
            rates = [group.get("initial_lr", group["lr"]) for group in (first, *others)]
            wanted = [rates[0] * group.get("share", 1.0) for group in (first, *others)]
            if not all(map(math.isclose, rates, wanted)):
                raise OptionError(
                    f"{type(plan['lr_scheduler']['scheduler']).__name__} gives all layers one "
                    "learning rate: leave out body_lr and body_lr_decay, or use "
                    "dlarch.optim.WarmupCosine."
                )
        return plan

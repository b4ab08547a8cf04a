"""The task of finding clusters of images: an autoencoder first, then codes that draw together."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor, nn
from torchmetrics import Metric

from dlarch.batches import ImageBatch
from dlarch.callbacks.clusters import ClusterPictures
from dlarch.errors import OptionError, check_at_least_1
from dlarch.nn import sharpened, squared_error
from dlarch.tasks.base import OptimizerCallable, SchedulerCallable
from dlarch.tasks.cluster_metrics import ClusterAgreement, ClusterLoss
from dlarch.tasks.examples import training_batches
from dlarch.tasks.image_autoencoder import SHOWN, ImageAutoencoder
from dlarch.tasks.metrics import Ratio

PREVIEW, PREVIEW_RESTARTS = 5000, 3
"""Training images, about, whose codes are clustered at each validation before clusters count, and
how often k-means begins anew."""

AGREEMENT = {"cluster_accuracy": "accuracy", "nmi": "nmi", "ari": "ari"}


class Targets(NamedTuple):
    """What is asked of clusters until the next update.

    Attributes:
        step: optimizer step of the update.
        frequencies: (K,), how many examples belong to each cluster, f.
        memberships: (N, K), p of each training example by its place; None where places are unknown.
        clusters: (N,), that each training example belonged to most.
    """

    step: int
    frequencies: Tensor
    memberships: Tensor | None = None
    clusters: Tensor | None = None


class ClusteredImages(ImageAutoencoder):
    """Images without classes that are sorted into as many clusters as are asked for.

    For some epochs the network learns as an autoencoder. Then k-means on the codes of all training
    images places the centers, the start of the least inertia being kept, and training goes on by
    the model's own loss of soft memberships. What memberships should become is worked out anew
    every few steps from all training images; when hardly any image has moved to another cluster
    since the last time, training ends. Classes are looked at by metrics alone.

    Until the centers are placed, each validation places them for once, so that its figures are
    those of k-means on the codes so far.

    Args:
        num_clusters: K.
        pretrain_epochs: epochs as an autoencoder.
        restarts: of k-means.
        update_steps: optimizer steps after which targets are worked out anew.
        tolerance: share of images that moved below which training ends.
        optimizer: called with the parameters.
        scheduler: called with the optimizer.
        pictures: draw reconstructions, nearest images, codes and moves between clusters.
    """

    monitor = None  # what chooses by classes cheats, and losses before and after do not compare
    headline = "test/cluster_accuracy"

    centers: nn.Parameter
    """(K, D); the model makes them."""

    placed: Tensor
    """Whether they stand where k-means has put them for good; the model makes it."""

    def __init__(
        self,
        num_clusters: int,
        pretrain_epochs: int,
        restarts: int,
        update_steps: int,
        tolerance: float,
        optimizer: OptimizerCallable,
        scheduler: SchedulerCallable | None = None,
        pictures: bool = True,
    ) -> None:
        super().__init__(optimizer=optimizer, scheduler=scheduler, pictures=pictures)
        check_at_least_1(num_clusters=num_clusters, restarts=restarts, update_steps=update_steps)
        if pretrain_epochs < 0:
            raise OptionError(f"pretrain_epochs must be at least 0, not {pretrain_epochs}.")
        self.restarts, self.update_steps, self.tolerance = restarts, update_steps, tolerance
        self._targets: Targets | None = None
        self._moves: Tensor | None = None

    # ---- what a model defines

    @abstractmethod
    def memberships(self, code: Tensor) -> Tensor:
        """How much codes (B, D) belong to each cluster: (B, K), q."""

    @abstractmethod
    def pretraining_losses(self, batch: ImageBatch) -> Tensor:
        """The loss of each image as an autoencoder, (B,)."""

    @abstractmethod
    def clustering_losses(self, image: Tensor, code: Tensor, targets: Tensor) -> Tensor:
        """The loss (B,) of images with codes (B, D), where memberships should be (B, K)."""

    @abstractmethod
    def idle(self) -> list[nn.Parameter]:
        """Parameters that the loss does not depend on now."""

    @abstractmethod
    def weights(self) -> tuple[float, float]:
        """What squared errors and divergence count in the loss of clusters."""

    # ---- training

    def losses(self, batch: ImageBatch) -> Tensor:
        """The loss of each image now, (B,)."""
        if not self.placed:
            return self.pretraining_losses(batch)
        code = self.encode(batch.image)
        return self.clustering_losses(batch.image, code, self.targets_of(batch, code))

    def targets_of(self, batch: ImageBatch, code: Tensor) -> Tensor:
        """What memberships of images with codes (B, D) should be, (B, K)."""
        if self._targets is not None and self._targets.memberships is not None:
            assert batch.example is not None
            return self._targets.memberships[batch.example]
        with torch.no_grad():
            now = self.memberships(code)
            known = now.sum(0) if self._targets is None else self._targets.frequencies
            return sharpened(now, known.to(now))

    def training_step(self, batch: Sequence[Any], index: int) -> Tensor:
        """Mean loss of the batch's images."""
        loss = super().training_step(batch, index)
        if self.trainer.world_size > 1:  # processes wait for a gradient of each parameter
            loss = loss + 0.0 * sum(each.sum() for each in self.idle())
        return loss

    def on_after_backward(self) -> None:
        """Leave what has nothing to learn as it is, whatever the optimizer remembers of it."""
        for parameter in self.idle():
            parameter.grad = None

    def on_fit_start(self) -> None:
        """Forget the targets of an earlier fit."""
        super().on_fit_start()
        if self.trainer.ckpt_path is None:
            self._targets = self._moves = None

    def on_train_start(self) -> None:
        """Bring the targets of a checkpoint to where the codes are."""
        super().on_train_start()
        if self._targets is not None:
            step, frequencies, *tables = self._targets
            here = [None if table is None else table.to(self.device) for table in tables]
            self._targets = Targets(step, frequencies.to(self.device), *here)

    def on_train_batch_start(self, *_: Any) -> None:
        """Place the centers when it is time, and work the targets out when they are due."""
        if not self.placed:
            if self.current_epoch < self.hparams.pretrain_epochs:
                return
            self.place(self._training_codes()[0], self.restarts)
            self.placed.fill_(True)
        step = self.trainer.global_step
        if self._targets is None or step >= self._targets.step + self.update_steps:
            self.update_targets()

    @torch.no_grad()
    def _training_codes(self, at_least: int | None = None) -> tuple[Tensor, Tensor | None]:
        """Codes (N, D) of training images, all or about so many, and their places if known."""
        codes: list[Tensor] = []
        places: list[Tensor] = []
        batches = training_batches(self.trainer)
        if at_least is not None:
            data = getattr(self.trainer, "datamodule", None)
            usual = getattr(data, "batch_size", 1)
            batches = islice(batches, -(-at_least // usual))
        training = self.training
        self.eval()
        for batch in batches:
            images = self.as_unit(batch)
            codes.append(self.encode(images.image).float())
            if images.example is not None:
                places.append(images.example)
        self.train(training)
        return torch.cat(codes), torch.cat(places) if len(places) == len(codes) else None

    @torch.no_grad()
    def place(self, codes: Tensor, restarts: int) -> None:
        """Put the centers where k-means finds clusters of codes (N, D), in all processes alike."""
        from sklearn.cluster import KMeans  # takes a while to import

        count = len(self.centers)
        rows = codes.cpu().numpy()
        distinct = np.unique(rows, axis=0)
        if len(distinct) <= count:  # each its own; what is too many lies on others
            found = torch.from_numpy(distinct)[torch.arange(count) % len(distinct)]
        else:
            clusters = KMeans(count, n_init=restarts, random_state=torch.initial_seed() % 2**32)
            found = torch.from_numpy(clusters.fit(rows).cluster_centers_)
        found = self.trainer.strategy.broadcast(found.float())
        self.centers.data.copy_(found)

    @torch.no_grad()
    def update_targets(self) -> None:
        """Work out what memberships should be, and whether anything still changes."""
        codes, places = self._training_codes()
        now = torch.cat([self.memberships(part) for part in codes.split(4096)])
        step, frequencies = self.trainer.global_step, now.sum(0)
        before = self._targets.clusters if self._targets is not None else None
        rows = 0 if places is None else int(places.max()) + 1
        if places is None or len(places.unique()) < rows:  # a share of them, or not numbered
            self._targets = Targets(step, frequencies)
            return
        table, clusters = now.new_zeros(rows, now.shape[1]), places.new_zeros(rows)
        table[places] = sharpened(now, frequencies)
        clusters[places] = now.argmax(1)
        self._targets = Targets(step, frequencies, table, clusters)
        if before is None:
            return
        count = len(self.centers)
        pairs = before.to(clusters) * count + clusters
        self._moves = pairs.bincount(minlength=count**2).view(count, count)
        moved = self.trainer.strategy.broadcast(
            float((before.to(clusters) != clusters).float().mean())
        )
        for logger in self.loggers:
            logger.log_metrics({"train/moved_share": moved}, step=step)
        if moved < self.tolerance:
            self.trainer.should_stop = True

    # ---- checkpoints

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the targets, which hold until the next update."""
        super().on_save_checkpoint(checkpoint)
        if self._targets is not None:
            checkpoint["dlarch"]["targets"] = {
                name: value.cpu() if isinstance(value, Tensor) else value
                for name, value in self._targets._asdict().items()
            }

    def _go_on_from(self, stored: dict[str, Any]) -> None:
        super()._go_on_from(stored)
        targets = stored.get("targets")
        self._targets = None if targets is None else Targets(**targets)

    # ---- validation and test

    def on_validation_epoch_start(self) -> None:
        """Start the epoch's metrics; before clusters count, place centers to look at."""
        super().on_validation_epoch_start()
        fitting = self.trainer.state.fn == TrainerFn.FITTING and not self.trainer.sanity_checking
        if fitting and not self.placed:
            self.place(self._training_codes(PREVIEW)[0], PREVIEW_RESTARTS)

    def metrics(self, stage: str) -> dict[str, Metric]:  # noqa: ARG002
        """The loss, squared errors, the divergence, and agreement with the classes."""
        weights = self.weights() if self.placed else (1.0, 0.0)
        found: dict[str, Metric] = {
            "loss": ClusterLoss(*weights),
            "sse": Ratio(),
            "cluster_kl": ClusterLoss(0.0, 1.0),
        }
        return found | {name: ClusterAgreement(measure) for name, measure in AGREEMENT.items()}

    def score(self, batch: ImageBatch) -> Tensor:
        """Score a batch; gives its codes."""
        code = self.encode(batch.image)
        lost = squared_error(self.decode(code), batch.image)
        memberships = self.memberships(code)
        self._metrics["loss"].update(lost, memberships)
        self._metrics["cluster_kl"].update(lost, memberships)
        self._metrics["sse"].update(lost.sum(), float(len(code)))
        for name in AGREEMENT:
            self._metrics[name].update(memberships.argmax(1), batch.label)
        return code

    @torch.no_grad()
    def assign(self, image: Tensor) -> Tensor:
        """Clusters (B,) of images (B, C, H, W), 0 to 1."""
        return self.memberships(self.encode(image)).argmax(1)

    # ---- what the pictures show

    def pictures(self) -> list[Callback]:
        """Those of autoencoders, and what moved between clusters."""
        return [*super().pictures(), ClusterPictures()]

    def moves(self) -> Tensor | None:
        """Training images by the cluster before the last update and after it, (K, K)."""
        return self._moves

    def _drawn(self, shown: Tensor) -> dict[str, Tensor]:
        found = super()._drawn(shown)
        kept = [self._kept[place] for place in sorted(self._kept)]
        codes = torch.stack([code for _, code, _ in kept]).float()
        near = torch.cdist(self.centers.float(), codes).argsort(1)[:, :SHOWN]
        found["nearest"] = torch.stack(
            [torch.stack([kept[place][0] for place in row]) for row in near.tolist()]
        )
        return found

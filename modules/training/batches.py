"""Batches of clips for Keras, read from memory or from disk, and mixup of training clips (Zhang et al. 2018)."""

import keras
import numpy as np

from modules.data import examples
from modules.data.dataset import Split

Batch = tuple[dict[str, np.ndarray], np.ndarray] | tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]
"""Inputs, labels and, if clips are weighted, weights, as Keras takes them."""


class Batches(keras.utils.PyDataset):
    """Batches of clips in their order, to validate on.

    Args:
        split: Normalised clips.
        batch_size: Clips of a batch; the last batch may have fewer.
    """

    def __init__(self, split: Split, *, batch_size: int) -> None:
        super().__init__()
        self._split, self._targets, self._batch_size = split, split.targets, batch_size

    def __len__(self) -> int:
        return -(-len(self._split) // self._batch_size)

    def __getitem__(self, index: int) -> Batch:
        """Return inputs, ``{"features": float32 [batch, …], "valid_frames": int32 [batch]}``, and labels.

        Labels are float32 ``[batch, classes]``.
        """
        rows = slice(index * self._batch_size, (index + 1) * self._batch_size)
        return self._split.inputs(rows), self._targets[rows]

    def close(self) -> None:
        """Release the clips. TensorFlow refers to batches that it has read until the process ends."""
        del self._split, self._targets


class TrainingBatches(Batches):
    """Batches in a new order each epoch; with mixup every clip is mixed with another of its batch.

    A clip keeps the greater share of the mixture, drawn from Beta(mixup, mixup) for each clip, and its own number of
    valid frames. Weights are mixed in the same shares, which leaves their mean over the clips at 1 on average. The
    random numbers depend on the seed, the epoch and the index of the batch only, so that reading a batch again gives
    the same clips.

    Args:
        split: Normalised clips; log-mel features are mixed in decibels.
        batch_size: Clips of a batch; the last batch may have fewer.
        mixup: Parameter of the distribution; larger values give more even mixtures, and 0 mixes nothing.
        seed: Seed of order and mixtures.
        weights: Weight of each clip in the loss, float32 ``[clips]``; None if all weigh the same.
    """

    def __init__(
        self, split: Split, *, batch_size: int, mixup: float, seed: int, weights: np.ndarray | None = None
    ) -> None:
        super().__init__(split, batch_size=batch_size)
        self._mixup, self._seed, self._weights = mixup, seed, weights
        self._start(epoch=0)

    def __getitem__(self, index: int) -> Batch:
        """Return inputs and labels like :meth:`Batches.__getitem__`, and weights, float32 ``[batch]``, if there are."""
        kept = self._order[index * self._batch_size :][: self._batch_size]
        inputs, targets = self._split.inputs(kept), self._targets[kept]
        weights = None if self._weights is None else self._weights[kept]
        if not self._mixup:
            return _batch(inputs, targets, weights)
        random = np.random.default_rng((self._seed, self._epoch, index))
        added = random.permutation(len(kept))
        share = random.beta(self._mixup, self._mixup, len(kept)).astype(np.float32)
        share = np.maximum(share, 1 - share)
        features = inputs[examples.FEATURES]
        mixed = inputs | {examples.FEATURES: _mixed(features, features[added], share)}
        weights = None if weights is None else _mixed(weights, weights[added], share)
        return _batch(mixed, _mixed(targets, targets[added], share), weights)

    def on_epoch_end(self) -> None:
        """Count the epoch and draw its order, so that the next one has other mixtures; Keras calls this."""
        self._start(epoch=self._epoch + 1)

    def _start(self, *, epoch: int) -> None:
        self._epoch = epoch
        self._order = np.random.default_rng((self._seed, epoch)).permutation(len(self._split))


def _batch(inputs: dict[str, np.ndarray], targets: np.ndarray, weights: np.ndarray | None) -> Batch:
    return (inputs, targets) if weights is None else (inputs, targets, weights)


def _mixed(kept: np.ndarray, added: np.ndarray, share: np.ndarray) -> np.ndarray:
    share = share.reshape(-1, *[1] * (kept.ndim - 1))
    return share * kept + (1 - share) * added

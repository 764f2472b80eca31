"""Mixup of training clips (Zhang et al. 2018)."""

import keras
import numpy as np

from modules.data import examples
from modules.data.dataset import Split


class MixedBatches(keras.utils.PyDataset):
    """Batches in a new order each epoch, every clip mixed with another of its batch.

    A clip keeps the greater share of the mixture, drawn from Beta(alpha, alpha) for each clip, and its own number of
    valid frames. The random numbers depend on the seed, the epoch and the index of the batch only, so that reading a
    batch again gives the same clips.

    Args:
        split: Normalised clips; log-mel features are mixed in decibels.
        batch_size: Clips of a batch; the last batch may have fewer.
        alpha: Parameter of the distribution, above 0; larger values give more even mixtures.
        seed: Seed of order and mixtures.
    """

    def __init__(self, split: Split, *, batch_size: int, alpha: float, seed: int) -> None:
        super().__init__()
        self._split, self._targets = split, split.targets
        self._batch_size, self._alpha, self._seed = batch_size, alpha, seed
        self._epoch = 0

    def __len__(self) -> int:
        return -(-len(self._split) // self._batch_size)

    def __getitem__(self, index: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Return inputs, ``{"features": float32 [batch, …], "valid_frames": int32 [batch]}``, and labels.

        Labels are float32 ``[batch, classes]``.
        """
        order = np.random.default_rng((self._seed, self._epoch)).permutation(len(self._split))
        kept = order[index * self._batch_size :][: self._batch_size]
        random = np.random.default_rng((self._seed, self._epoch, index))
        added = random.permutation(kept)
        share = random.beta(self._alpha, self._alpha, len(kept)).astype(np.float32)
        share = np.maximum(share, 1 - share)
        features = _mixed(self._split.features[kept], self._split.features[added], share)
        inputs = {examples.FEATURES: features, examples.VALID_FRAMES: self._split.valid_frames[kept]}
        return inputs, _mixed(self._targets[kept], self._targets[added], share)

    def on_epoch_end(self) -> None:
        """Count the epoch, so that the next one draws other mixtures; Keras calls this."""
        self._epoch += 1


def _mixed(kept: np.ndarray, added: np.ndarray, share: np.ndarray) -> np.ndarray:
    share = share.reshape(-1, *[1] * (kept.ndim - 1))
    return share * kept + (1 - share) * added

"""Training clips mixed in pairs while they are handed out (mixup, Zhang et al. 2018)."""

import keras
import numpy as np

from modules.data import examples
from modules.data.dataset import Split


class MixedBatches(keras.utils.PyDataset):
    """Batches in a new order each epoch, every clip mixed with another of its batch.

    A clip keeps the greater share of the mixture, drawn from Beta(alpha, alpha) for each clip, and its own number of
    valid frames: what it has none of is silence in the mixture too. What is drawn follows from the seed, the epoch and
    the batch's number alone, not from how often a batch is asked for.

    Args:
        split: Normalised clips; on log-mel features they are mixed in decibels.
        alpha: Above 0. The larger, the more even the mixtures.
    """

    def __init__(self, split: Split, *, batch_size: int, alpha: float, seed: int) -> None:
        super().__init__()
        self._split, self._targets = split, split.targets
        self._batch_size, self._alpha, self._seed = batch_size, alpha, seed
        self._epoch = 0

    def __len__(self) -> int:
        return -(-len(self._split) // self._batch_size)

    def __getitem__(self, index: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """``{"features": float32 [batch, …], "valid_frames": int32 [batch]}`` and float32 ``[batch, classes]``."""
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
        """Called by Keras: the next epoch draws anew."""
        self._epoch += 1


def _mixed(kept: np.ndarray, added: np.ndarray, share: np.ndarray) -> np.ndarray:
    share = share.reshape(-1, *[1] * (kept.ndim - 1))
    return share * kept + (1 - share) * added

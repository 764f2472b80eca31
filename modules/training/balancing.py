"""Weights of training clips that give groups of different sizes the same influence."""

import numpy as np

from modules.data.dataset import Split
from modules.training.settings import Balance


def clip_weights(split: Split, balance: Balance) -> np.ndarray | None:
    """Return the weight of each clip in the loss, float32 ``[clips]`` with a mean of 1; None if all weigh the same.

    The weights of every group add up to the same, as with scikit-learn's ``class_weight="balanced"``: a clip weighs
    clips / (groups * clips of its group).

    Args:
        split: Clips to train on.
        balance: What the groups are.
    """
    from sklearn.utils.class_weight import compute_sample_weight  # takes a second, and the default does without

    groups = {"emotion": split.emotion_ids, "corpus": split.corpora, "speaker": split.speakers}
    if balance == "none":
        return None
    _, group = np.unique(groups[balance], return_inverse=True)  # numbers, since scikit-learn takes no bytes
    return compute_sample_weight("balanced", group).astype(np.float32)

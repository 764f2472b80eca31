"""The SavedModel with the interface of the converted files, to compare them with."""

import numpy as np
import tensorflow as tf

from modules.export.contract import load_contract


class ServedModel:
    """The signature ``waveform`` of a SavedModel, for single windows."""

    def __init__(self, model_dir: str) -> None:
        """Load the model.

        Args:
            model_dir: Folder of the SavedModel, local or in a bucket.
        """
        self._model = tf.saved_model.load(model_dir)  # the signature alone does not hold the variables
        self._run = self._model.signatures["waveform"]
        self._rate_hz = tf.constant([load_contract(model_dir).audio_spec.sample_rate_hz])

    def predict(self, waveform: np.ndarray, valid_samples: np.ndarray) -> np.ndarray:
        """Return the probabilities of one window, float32 ``[1, emotions]``.

        Args:
            waveform: float32 ``[1, window_samples]``.
            valid_samples: Number of its samples that are sound, int32 ``[1]``.
        """
        sound = waveform[0, : int(valid_samples[0])].astype("<f4").tobytes()
        return self._run(waveform=tf.constant([sound]), sample_rate_hz=self._rate_hz)["probabilities"].numpy()

"""espeak-ng as a library. Its state is global: use one synthesiser per process, in one thread."""

import ctypes
import functools
import tempfile
from pathlib import Path

import espeakng_loader
import numpy as np

from modules.common.errors import SerError

# From espeak-ng's speak_lib.h.
_OUTPUT_SYNCHRONOUS = 2
_DO_NOT_EXIT = 0x8000
_TEXT_IS_UTF8 = 1
_RATE, _WORD_GAP = 1, 7
_PCM_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


class SynthesisFailed(SerError, RuntimeError):
    """A failure of espeak-ng to start or to synthesise."""

    code = "demo_corpus.synthesis"


class Espeak:
    """Synthesiser for voices in the format of espeak-ng's voice files."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(espeakng_loader.get_library_path())
        self._pcm: list[bytes] = []
        self._keep_callback = _PCM_CALLBACK(self._receive)  # the library holds no reference of its own
        data_path = espeakng_loader.get_data_path().encode()
        self.sample_rate_hz = self._library.espeak_Initialize(_OUTPUT_SYNCHRONOUS, 0, data_path, _DO_NOT_EXIT)
        if self.sample_rate_hz <= 0:
            raise SynthesisFailed(f"espeak-ng found no voices in {data_path.decode()}")
        self._library.espeak_SetSynthCallback(self._keep_callback)

    def synthesise(self, text: str, *, voice: str, words_per_minute: int, word_gap_10ms: int) -> np.ndarray:
        """Synthesise one sentence.

        The samples depend on the arguments only, if the voice sets ``flutter 0`` and ``roughness 0``: the state of both
        carries over from the previous sentence.

        Args:
            text: Sentence to synthesise.
            voice: Text of an espeak-ng voice file.
            words_per_minute: Speaking rate.
            word_gap_10ms: Pause between words, in units of 10 ms.

        Returns:
            float64 of shape ``[samples]``, full scale is ±1.

        Raises:
            SynthesisFailed: espeak-ng refused the voice, a parameter or the text, or returned silence.
        """
        self._set_voice(voice)
        self._check(self._library.espeak_SetParameter(_RATE, words_per_minute, 0), f"{words_per_minute} words a minute")
        self._check(self._library.espeak_SetParameter(_WORD_GAP, word_gap_10ms, 0), f"a gap of {word_gap_10ms}0 ms")
        self._pcm.clear()
        encoded = text.encode()
        status = self._library.espeak_Synth(
            encoded, ctypes.c_size_t(len(encoded) + 1), 0, 0, 0, _TEXT_IS_UTF8, None, None
        )
        self._check(status, f"the text {text!r}")
        samples = np.frombuffer(b"".join(self._pcm), np.int16) / 32_768
        if not samples.any():
            raise SynthesisFailed(f"espeak-ng returned silence for the text {text!r}")
        return samples

    def _set_voice(self, voice: str) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "voice")
            path.write_text(voice, encoding="utf-8")
            self._check(self._library.espeak_SetVoiceByFile(str(path).encode()), "the voice")

    def _receive(self, samples: "ctypes._Pointer[ctypes.c_short]", count: int, _events: int) -> int:
        if count > 0:
            self._pcm.append(ctypes.string_at(samples, 2 * count))
        return 0  # continue

    @staticmethod
    def _check(status: int, what: str) -> None:
        if status != 0:
            raise SynthesisFailed(f"espeak-ng refused {what} (status {status})")


@functools.cache
def process_espeak() -> Espeak:
    """Return the synthesiser of the process, loaded at the first call."""
    return Espeak()

"""From a clip to its augmented copies.

Drawing and applying are apart: a plan holds every number that chance decided, so it can be printed, compared,
and applied anywhere with the same result. It depends on the seed, the clip and the variant alone.
"""

from collections.abc import Iterator, Mapping
from typing import Protocol

import numpy as np

from modules.audio.augmentation.babble import Babble
from modules.audio.augmentation.clipping import Clipping
from modules.audio.augmentation.codec import Codec
from modules.audio.augmentation.coloured_noise import ColouredNoise
from modules.audio.augmentation.excerpt import Excerpt
from modules.audio.augmentation.gain import Gain
from modules.audio.augmentation.hum import Hum
from modules.audio.augmentation.music import Music
from modules.audio.augmentation.noise import Noise
from modules.audio.augmentation.pitch import Pitch
from modules.audio.augmentation.room import Room
from modules.audio.augmentation.settings import AugmentationSettings, steps_of
from modules.audio.augmentation.shift import Shift
from modules.audio.augmentation.stretch import Stretch
from modules.audio.augmentation.telephone import Telephone
from modules.audio.augmentation.tilt import Tilt
from modules.common.digest import shuffle_key


class Transform(Protocol):
    """One change to a clip, its parameters drawn. Equal transforms give equal results."""

    def __hash__(self) -> int: ...

    def apply(self, samples: np.ndarray, *, sample_rate_hz: int) -> np.ndarray:
        """Return the changed samples, float32 of shape ``(n,)``; ``n`` may differ from that of ``samples``."""


Plan = tuple[Transform, ...]


class DrawnTransform(Protocol):
    """A class of transforms."""

    def draw(self, settings: AugmentationSettings, rng: np.random.Generator) -> Transform:
        """Draw the parameters of a transform from ``rng``."""


_BY_NAME: Mapping[str, DrawnTransform] = {
    "noise": Noise,
    "stretch": Stretch,
    "shift": Shift,
    "pitch": Pitch,
    "coloured_noise": ColouredNoise,
    "babble": Babble,
    "telephone": Telephone,
    "excerpt": Excerpt,
    "room": Room,
    "tilt": Tilt,
    "codec": Codec,
    "hum": Hum,
    "music": Music,
    "clipping": Clipping,
    "gain": Gain,
}


def draw_plan(variant: str, settings: AugmentationSettings, *, seed: int, clip_id: str) -> Plan:
    """Draw the random parameters of one copy of one clip.

    Args:
        variant: Name of the variant.
        settings: Ranges of the parameters.
        seed: Seed of the whole run.
        clip_id: Id of the clip.

    Raises:
        ValueError: The variant is unknown.
    """
    rng = np.random.default_rng(int(shuffle_key(seed, clip_id, variant), 16))
    return tuple(_BY_NAME[step].draw(settings, rng) for step in steps_of(variant))


def augment(
    window: np.ndarray,
    *,
    valid_samples: int,
    sample_rate_hz: int,
    settings: AugmentationSettings,
    seed: int,
    clip_id: str,
) -> Iterator[tuple[str, np.ndarray, int]]:
    """Yield every variant of one analysed window, in the order of ``settings.variants``.

    Plans that begin alike share the beginning: with the default variants the costly pitch shift is computed once.

    Args:
        window: float32 of shape ``(window_samples,)``, zeros from ``valid_samples`` on.
        valid_samples: Samples of the window that the recording fills, at least 1.
        sample_rate_hz: Sample rate of the window.
        settings: Variants and their parameters.
        seed: Seed of the whole run.
        clip_id: Id of the clip; each clip gets its own noise.

    Yields:
        The variant's name, its window of the same shape as ``window``, and its valid samples, which differ from the
        given ones where the variant is shorter or longer than the recording.
    """
    made: dict[Plan, np.ndarray] = {(): window[:valid_samples]}
    for variant in settings.variants:
        plan = draw_plan(variant, settings, seed=seed, clip_id=clip_id)
        yield variant, *_fit(_apply(plan, made, sample_rate_hz), len(window))


def _apply(plan: Plan, made: dict[Plan, np.ndarray], sample_rate_hz: int) -> np.ndarray:
    if plan not in made:
        before = _apply(plan[:-1], made, sample_rate_hz)
        made[plan] = plan[-1].apply(before, sample_rate_hz=sample_rate_hz).astype(np.float32, copy=False)
    return made[plan]


def _fit(samples: np.ndarray, window_samples: int) -> tuple[np.ndarray, int]:
    valid_samples = min(len(samples), window_samples)
    window = np.zeros(window_samples, np.float32)
    window[:valid_samples] = samples[:valid_samples]
    return window, valid_samples

"""Changes of a recording after which a model should still recognise the emotion: noise, channels, rooms, cuts, levels.

They are for measurements. The augmentation of training clips is :mod:`modules.audio.augmentation`.
"""

from modules.audio.changes.change import Change, Place, Sound, Voices, changed, unchanged

__all__ = ["Change", "Place", "Sound", "Voices", "changed", "unchanged"]

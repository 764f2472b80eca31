"""Augmented copies of training clips: noise, rooms, codecs, pitch and others, and their compositions."""

from modules.audio.augmentation.settings import PLAIN, TRANSFORMS, AugmentationSettings
from modules.audio.augmentation.variants import augment, draw_plan

__all__ = ["PLAIN", "TRANSFORMS", "AugmentationSettings", "augment", "draw_plan"]

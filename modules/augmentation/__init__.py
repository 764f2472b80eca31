"""Augmented copies of training clips: noise, stretch, shift, pitch and their compositions."""

from modules.augmentation.settings import PLAIN, TRANSFORMS, AugmentationSettings
from modules.augmentation.variants import augment, draw_plan

__all__ = ["PLAIN", "TRANSFORMS", "AugmentationSettings", "augment", "draw_plan"]

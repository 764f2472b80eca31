"""Settings of the original network: few features for each clip, quick to extract and to train on."""

from pipeline.config import load_config

_CONFIG = load_config(overrides=["training.family=original_cnn"])
ORIGINAL_AUDIO = _CONFIG.audio
ORIGINAL_AUGMENTATION = _CONFIG.augmentation
ORIGINAL_INGEST = _CONFIG.ingest_settings
ORIGINAL_SPLITS = _CONFIG.splits
ORIGINAL_TRAINING = _CONFIG.training

"""Audio: reading, resampling, windows and features of recordings."""

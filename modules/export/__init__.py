"""Export of a trained model: its signatures and its contract."""

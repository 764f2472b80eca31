"""Frozen speech encoders whose outputs serve as features."""

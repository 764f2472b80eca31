"""Metrics with intervals, calibration and the decision of the gate."""

"""Reports of a run: ``summary.json`` and ``report.html``.

``RunSummary`` is the typed content of both, and ``write`` writes them into a folder. This package does not import
TensorFlow.
"""

"""What a run leaves for people: ``summary.json`` and ``report.html``.

``RunSummary`` is the typed content of both, ``evaluate`` fills its evaluation from predictions, ``write`` puts the
two files into a folder. Nothing here imports TensorFlow.
"""

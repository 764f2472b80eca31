import ast

import nbclient
import nbformat

from modules.data.labels import EMOTIONS
from tests.paths import ROOT


def test_notebook_goes_from_recordings_to_a_served_answer(local_run, monkeypatch):
    for name, value in (
        ("DATA", local_run.data),
        ("ROOT", local_run.root),
        ("SETTINGS", " ".join(local_run.overrides)),
    ):
        monkeypatch.setenv(f"SER_{name}", str(value))
    notebook = nbformat.read(ROOT / "examples" / "recordings_to_answer.ipynb", as_version=4)
    nbclient.NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": ROOT}}
    ).execute()
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    status, answer = (cell.outputs[-1]["data"]["text/plain"] for cell in cells[-2:])
    assert status == "'completed'"
    emotion, probabilities = ast.literal_eval(answer)
    assert emotion == max(probabilities, key=probabilities.get)
    assert sorted(probabilities) == sorted(EMOTIONS)

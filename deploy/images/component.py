"""Runs the first components of the compiled pipeline in the pipeline image, by their containers' commands."""

import os
import sys
import tempfile
from pathlib import Path

from modules.demo_corpus.corpus import write_corpus
from pipeline import default_family
from pipeline.config import load_config
from pipeline.vertex.compile import compile_pipeline
from pipeline.vertex.config import VertexConfig

REPOSITORY = Path(__file__).parents[2]


def main() -> None:
    """Run AudioExampleGen and StatisticsGen on a small demo corpus; raises if one fails."""
    sys.path.append(str(REPOSITORY))  # last: all but the stand-in for Vertex AI Pipelines is what is installed
    from tests.fakes.vertex_pipelines import LocalPipelines

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_corpus(folder / "recordings", clips=24 * 7, seed=0)
        places = {"data": "recordings", "pipeline_root": "root", "serving_dir": "serving"}
        values = [f"vertex.{key}={folder / place}" for key, place in places.items()]
        values += ["ingest.pattern=*/*", "vertex.dataflow.enabled=false", "tuner.enabled=false"]
        config = load_config(
            REPOSITORY / "tests" / "golden" / "vertex.yaml",
            overrides=values,
            family=default_family.ON_VERTEX.name,
            tree=VertexConfig,
        )
        done = LocalPipelines(folder, os.environ).run(compile_pipeline(config), until=["StatisticsGen"])
        for task, result in done.items():
            print(f"{task}: {result.seconds:.0f} s, user {os.getuid()}", flush=True)


if __name__ == "__main__":
    main()

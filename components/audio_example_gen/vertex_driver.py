"""The check before the cache on Vertex AI: TFX's, with this project's fingerprint of the recordings."""

from absl import app
from tfx.orchestration.kubeflow.v2.file_based_example_gen import driver

from components.audio_example_gen.fingerprint import used_by_tfx

if __name__ == "__main__":
    with used_by_tfx():
        app.run(driver.main, flags_parser=driver._parse_flags)

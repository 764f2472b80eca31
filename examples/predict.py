"""Send recordings to a served model with the project's client.

python examples/predict.py recording.wav [recording.flac ...]
"""

import argparse

from serving.client import AudioError, Client


def main() -> None:
    """Print the most probable emotion of each recording."""
    parser = argparse.ArgumentParser(description="Send recordings to a served model.")
    parser.add_argument("recordings", nargs="+", metavar="FILE")
    parser.add_argument("--address", default="localhost:8500", help="HOST:PORT of the server (%(default)s)")
    options = parser.parse_args()
    with Client(options.address) as client:
        for recording in options.recordings:
            try:
                prediction = client.predict(recording)
            except AudioError as error:
                print(f"{recording}: {error}")
            else:
                probability = prediction.probabilities.get(prediction.emotion)  # none of no_speech and not_sure
                print(f"{recording}: {prediction.emotion}" + (f" {probability:.0%}" if probability else ""))


if __name__ == "__main__":
    main()

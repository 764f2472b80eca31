"""Command line of the serving benchmark."""

import json
import os
from pathlib import Path

from benchmarks import command, document, serving
from benchmarks.serving.measurement import measure
from benchmarks.serving.tables import report


def main() -> None:
    """Measure the candidates and print the tables."""
    parser = command.make_parser(serving.__doc__)
    parser.add_argument("--model-base-path", type=Path, default=Path("output/serving"))
    parser.add_argument("--seconds", type=float, default=5.0, help="duration of each load")
    parser.add_argument("--json", action="store_true", help="print all numbers, as JSON")
    options = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    measured = measure(options.model_base_path, options.data, options.seconds)
    print(json.dumps(measured, indent=2) if options.json else report(measured))
    if options.write:
        document.write(options.write, "serving", report(measured))


if __name__ == "__main__":
    main()

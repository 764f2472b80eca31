"""Results of named protocols next to published ones: ``python -m benchmarks.published RESULT ... [--write FILE]``.

A result is the ``cross_validation.json`` that ``ser evaluate --protocol NAME`` writes. The published figures are in
``published.yaml`` in this folder. The table of a protocol is written if there is a result for it.
"""

import collections
import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from benchmarks import command, document
from modules.reporting import markdown, summary

PUBLISHED_FILE = Path(__file__).with_suffix(".yaml")
TITLES = {"uar": "UAR", "accuracy": "accuracy", "macro_f1": "F1"}

_HEADS = ("system", "pretraining", "parameters", "%", "source")


def to_markdown(results: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Return the table of each protocol that the results have.

    Args:
        results: Contents of ``cross_validation.json``.

    Returns:
        Tables by name of the protocol: published rows, then one of each result.

    Raises:
        ValueError: A result is not of a named protocol.
    """
    rows = collections.defaultdict(list)
    for result in results:
        if not result["protocol"]:
            raise ValueError("a result is of no named protocol; give results of `ser evaluate --protocol NAME`")
        rows[result["protocol"]["name"]].append(_own_row(result))
    published = yaml.safe_load(PUBLISHED_FILE.read_text())
    return {
        name: markdown.table(_HEADS, [*map(_published_row, published.get(name, ())), *own]) + "\n"
        for name, own in rows.items()
    }


def _published_row(figures: Mapping[str, Any]) -> Sequence[str]:
    texts = [f"{title} {figures[name]:.2f}" for name, title in TITLES.items() if name in figures]
    return *(str(figures[name]) for name in _HEADS[:3]), ", ".join(texts), figures["source"]


def _own_row(result: Mapping[str, Any]) -> Sequence[str]:
    metrics = {metric["name"]: metric for metric in result["evaluation"]["metrics"]}
    texts = [f"{title} {document.percent(metrics[name]['value'])}" for name, title in TITLES.items()]
    enough = result["evaluation"]["speakers"] >= summary.MIN_INTERVAL_SPEAKERS
    interval = document.percent_range(metrics["uar"]["low"], metrics["uar"]["high"]) if enough else "interval unknown"
    texts[0] += f" ({interval})"
    trained = result.get("finetune_blocks", 0)
    state = f"{trained} of its blocks trained" if trained else "frozen"
    return (
        f"**`{result['family']}`**{', refitted' if result.get('refit') else ''}",
        f"speech ({result['encoder']}), {state}" if result["encoder"] else "none",
        f"{result['parameters']:,} trained".replace(",", " "),
        f"{', '.join(texts)}; mean of the folds {_mean_of_folds(result)}",
        f"folds {result['folds_sha256'][:8]}",
    )


def _mean_of_folds(result: Mapping[str, Any]) -> str:
    """Return mean and standard deviation of the UAR."""
    recalls = [metric["value"] for fold in result["folds"] for metric in fold["metrics"] if metric["name"] == "uar"]
    return f"{document.percent(statistics.fmean(recalls))} ± {document.percent(statistics.stdev(recalls))}"


def main() -> None:
    """Print the tables of the results."""
    parser = command.make_parser_without_data(__doc__)
    parser.add_argument("results", nargs="+", type=Path, metavar="RESULT", help="cross_validation.json of a protocol")
    options = parser.parse_args()
    command.publish(to_markdown(json.loads(path.read_text()) for path in options.results), options.write)


if __name__ == "__main__":
    main()

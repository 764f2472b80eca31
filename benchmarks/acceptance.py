"""Acceptance tests of a family over the folds: ``python -m benchmarks.acceptance --data DIR --family FAMILY``.

Folds and models are those of ``ser evaluate``; missing ones are trained. Results of changed recordings are files below
``--root``, so that a stopped run resumes. The tests are those of ``ser accept folds``, with all emotions of the model
and with the four that the bounds were published for.
"""

import os
from collections.abc import Mapping

os.environ.setdefault("TF_USE_LEGACY_KERAS", "0")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from benchmarks import command, document
from modules.evaluation.acceptance.bounds import PUBLISHED_EMOTIONS
from modules.models import FAMILIES
from modules.reporting.acceptance import worst_of
from modules.reporting.summary import Acceptance, AcceptanceCheck

ROBUSTNESS = "robustness"


def tests_table(all_emotions: Acceptance, published: Acceptance) -> str:
    """Return passed checks of each test, and its worst check, with all emotions and with the published ones.

    Args:
        all_emotions: Tests with all emotions of the model.
        published: Tests with the published emotions.
    """
    heads = ["test", "passed", "worst check", f"passed, {len(published.emotions)} emotions", "worst check"]
    rows = [
        [test.replace("_", " "), *_cells(checks), *_cells(published.tests.get(test, ()))]
        for test, checks in all_emotions.tests.items()
    ]
    return document.table(heads, rows)


def _cells(checks: tuple[AcceptanceCheck, ...]) -> tuple[str, str]:
    if not checks:
        return "", "not tested"
    worst = worst_of(checks)
    return f"{sum(check.passed for check in checks)} of {len(checks)}", f"{worst.name}: {_value(worst)}"


def changes_table(all_emotions: Acceptance, published: Acceptance) -> str:
    """Return every check of the robustness tests, with all emotions and with the published ones.

    Args:
        all_emotions: Tests with all emotions of the model.
        published: Tests with the published emotions.
    """
    others = {(check.test, check.name): check for check in published.checks}
    rows = [
        [check.name, check.texts[2], _value(check), _value(others[check.test, check.name])]
        for check in all_emotions.checks
        if check.test.startswith(ROBUSTNESS)
    ]
    emotions = (f"{len(all_emotions.emotions)} emotions", f"{len(published.emotions)} emotions")
    return document.table(["check", "bound", *emotions], rows)


def _value(check: AcceptanceCheck) -> str:
    value, interval, _ = check.texts
    text = f"{value} ({interval})" if interval else value
    return text if check.passed else f"**{text}**"


def tables(family: str, all_emotions: Acceptance, published: Acceptance) -> Mapping[str, str]:
    """Return the tables of a family by the names of their markers.

    Args:
        family: Name of the model family.
        all_emotions: Tests with all emotions of the model.
        published: Tests with the published emotions.
    """
    skipped = [f"Not tested: {each.test.replace('_', ' ')}: {each.reason}." for each in all_emotions.skipped]
    return {
        f"acceptance of {family}": "\n".join([tests_table(all_emotions, published), *skipped]),
        f"robustness of {family}": changes_table(all_emotions, published),
    }


def main() -> None:
    """Test a family over the folds and print the tables."""
    parser = command.make_folds_parser(__doc__)
    parser.add_argument("--family", choices=sorted(FAMILIES), required=True, help="model family")
    options = parser.parse_args()
    from pipeline.cross_validation import acceptance  # slow to import

    with command.run_folder(options.root):
        planned = command.plan_folds(options, f"training.family={options.family}")
        results = [
            acceptance.accept(planned, options.data, emotions=emotions)
            for emotions in (planned.corpus.emotions, PUBLISHED_EMOTIONS)
        ]
    command.publish(tables(options.family, *results), options.write)


if __name__ == "__main__":
    main()

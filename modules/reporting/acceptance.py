"""Rows of the acceptance tests for reports and the terminal."""

from modules.reporting.summary import Acceptance, AcceptanceCheck


def test_rows(acceptance: Acceptance) -> list[tuple[str, ...]]:
    """Return a row for each test: its name, its worst check, passed checks, and the check's value, interval and bound.

    Args:
        acceptance: The tests.
    """
    rows: list[tuple[str, ...]] = []
    for test, checks in acceptance.tests.items():
        worst = worst_of(checks)
        passed = sum(check.passed for check in checks)
        rows.append((test, worst.name, f"{passed} of {len(checks)}", *worst.texts))
    return rows


def worst_of(checks: tuple[AcceptanceCheck, ...]) -> AcceptanceCheck:
    """Return the check that is farthest on the wrong side of its bound, or closest to it on the right side.

    Args:
        checks: Checks of a test.
    """
    return min(checks, key=lambda check: check.margin)

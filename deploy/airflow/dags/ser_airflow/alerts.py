"""Alerts: a line in the task's log and, where addresses are set, an e-mail by the connection ``smtp_default``."""

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow.sdk import Context

_log = logging.getLogger(__name__)
_FAILED_TEXT = """\
Task {{ ti.task_id }} of {{ dag.dag_id }} failed in run {{ run_id }}: {{ exception | e }}<br>
Log: <a href="{{ ti.log_url }}">{{ ti.log_url }}</a>"""


def on_failure(to: Sequence[str]) -> list[Any]:
    """Return the callbacks for a task that failed after its last retry.

    Args:
        to: E-mail addresses; none for no callback.
    """
    subject = "{{ dag.dag_id }}: {{ ti.task_id }} failed"
    return [_notifier(to, subject=subject, html_content=_FAILED_TEXT)] if to else []


def send(to: Sequence[str], context: "Context", *, subject: str, lines: Sequence[str]) -> None:
    """Send an alert about the outcome of a run, which has not failed.

    Args:
        to: E-mail addresses; none for the log alone.
        context: Context of the task.
        subject: Subject.
        lines: Text.
    """
    _log.warning("alert: %s: %s", subject, "; ".join(lines))
    if to:
        from markupsafe import escape

        _notifier(to, subject=subject, html_content="<br>\n".join(map(escape, lines)))(context)


def _notifier(to: Sequence[str], **content: str) -> Any:
    from airflow.providers.smtp.notifications.smtp import SmtpNotifier

    return SmtpNotifier(to=list(to), **content)

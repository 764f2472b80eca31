"""Limit on the sessions of the page that are open at the same time, which Streamlit has no setting for."""

import threading

from streamlit.runtime import get_instance
from streamlit.runtime.scriptrunner import get_script_run_ctx

_admitted: set[str] = set()
_lock = threading.Lock()


def admit(limit: int) -> bool:
    """Return whether the session that runs the script may use the page. A closed tab makes room for another session.

    Args:
        limit: Largest number of open sessions, in this process.

    Raises:
        RuntimeError: Streamlit does not run the script.
    """
    context = get_script_run_ctx()
    if context is None:
        raise RuntimeError("Streamlit does not run this script; start the page with `ser ui`")
    is_open = get_instance().is_active_session
    with _lock:
        _admitted.intersection_update([session for session in _admitted if is_open(session)])
        if len(_admitted) < limit:
            _admitted.add(context.session_id)
        return context.session_id in _admitted

"""Stable codes of the errors of serving."""

import re

from modules.common.errors import SerError
from serving.client import errors as client_errors
from serving.rollout import state as rollout_errors
from serving.rollout.vertex import PushFailed
from serving.server.command import CannotServe
from serving.server.errors import StatusError
from serving.server.options import ServerConfigError

DEFINED = [kind for module in (client_errors, rollout_errors) for kind in vars(module).values()]
ERRORS = [kind for kind in DEFINED if isinstance(kind, type) and issubclass(kind, SerError)]
ERRORS += [PushFailed, CannotServe, StatusError, ServerConfigError]


def test_each_error_has_a_code_of_its_own():
    codes = {kind: kind.code for kind in ERRORS if kind not in (SerError, client_errors.AudioError)}
    assert len(codes) >= 20
    assert sorted(set(codes.values())) == sorted(codes.values())
    assert all(re.fullmatch(r"(serving|rollout)\.[a-z_]+", code) for code in codes.values())

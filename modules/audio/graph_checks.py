"""The checks of :mod:`modules.audio.decoding` inside a TensorFlow graph: an error text instead of an exception.

TF Serving gives one status to all requests that it merges into a batch, so a recording that cannot be used must not
raise: its item gets the text, and the others get their answers.
"""

import string
from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from modules.audio.decoding import AudioLimits, Check

NO_ERROR = ""


class Applied(NamedTuple):
    """Whether a check holds, bool ``[]``, and what makes the text of its error, string ``[]``."""

    holds: tf.Tensor
    text: Callable[[], tf.Tensor]


def apply(check: Check, limits: AudioLimits, **measured: Any) -> Applied:
    """Apply a check in the graph; the measured values are scalar tensors or text."""
    return Applied(check.holds(limits, **measured), lambda: _text(check, limits, measured))


def first_error(*applied: Applied) -> tf.Tensor:
    """Return the error of the first check that does not hold, string ``[]``; empty if all hold.

    All conditions are evaluated, so each must be computable for every input; only the text of the error is made.
    """
    holds = tf.stack([tf.cast(each.holds, tf.int32) for each in applied])
    first = tf.reduce_sum(tf.math.cumprod(holds))
    return tf.switch_case(first, [*(each.text for each in applied), lambda: tf.constant(NO_ERROR)])


def _text(check: Check, limits: AudioLimits, measured: dict[str, Any]) -> tf.Tensor:
    """Do what ``check.text.format`` does, for tensors."""
    parts: list[Any] = [f"{check.code}: "]
    for literal, name, spec, _ in string.Formatter().parse(check.text):
        parts.append(literal)
        if name in measured:
            parts.append(_formatted(measured[name], spec or ""))
        elif name:
            parts.append(f"{{{name}:{spec}}}".format(limits=limits))
    return tf.strings.join(parts)


def _formatted(value: Any, spec: str) -> Any:
    """Format a measured value by a format specification such as ``.3f`` or ``.1e``."""
    if isinstance(value, str) or value.dtype == tf.string:
        return value
    precision = int(spec[1:-1]) if spec else -1
    return tf.strings.as_string(value, precision=precision, scientific=spec.endswith("e"))

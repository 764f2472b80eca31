"""Adam with a learning rate of their own for some variables."""

from collections.abc import Iterable
from typing import Any

import keras


class AdamOfTwoRates(keras.optimizers.Adam):
    """Adam, with weight decay AdamW, that multiplies the learning rate of some variables by a factor.

    A factor on their gradients would change nothing, since Adam divides by the size of the gradients. The decay, which
    Keras applies apart from the step, has the whole rate for all variables.
    """

    def __init__(self, *arguments: Any, scaled: Iterable[keras.Variable], factor: float, **keywords: Any) -> None:
        """Choose the variables.

        Args:
            *arguments: Arguments of Keras's Adam.
            scaled: Variables that have the rate multiplied by ``factor``.
            factor: The factor.
            **keywords: Arguments of Keras's Adam.
        """
        super().__init__(*arguments, **keywords)
        self._scaled, self._factor = frozenset(map(id, scaled)), factor

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Update one variable; Keras calls this, with TensorFlow's variable on that backend."""
        whole = self._trainable_variables[self._get_variable_index(variable)]
        factor = self._factor if id(whole) in self._scaled else 1.0
        super().update_step(gradient, variable, learning_rate * factor)

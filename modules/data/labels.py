"""The seven emotions that every corpus is mapped onto, in the order of the model's outputs."""

EMOTIONS: tuple[str, ...] = ("angry", "disgust", "fear", "happy", "neutral", "sad", "surprise")

EMOTION_IDS: dict[str, int] = {emotion: index for index, emotion in enumerate(EMOTIONS)}

SEXES: tuple[str, ...] = ("female", "male", "unknown")

INTENSITIES: tuple[str, ...] = ("low", "normal", "strong", "unspecified")

SPLITS: tuple[str, ...] = ("train", "eval", "test")

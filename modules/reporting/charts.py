"""Line, calibration and trial charts as inline SVG.

Colours come from the report's style sheet by class, so that one picture serves light, dark and print.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

from markupsafe import Markup
from matplotlib.ticker import MaxNLocator

from modules.reporting.summary import CalibrationBin, DriftedFeature, Training, Trial, Tuning

WIDTH, HEIGHT = 380, 230
LEFT, RIGHT, TOP, BOTTOM = 54, 12, 12, 38

_SVG = Markup('<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>')
_LINE = Markup('<line class="{}" x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}"/>')
_TEXT = Markup('<text class="{}" x="{:.1f}" y="{:.1f}">{}</text>')
_DOT = Markup('<circle class="{}" cx="{:.1f}" cy="{:.1f}" r="{:.1f}"><title>{}</title></circle>')
_BAR = Markup('<rect class="{}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"><title>{}</title></rect>')
_PATH = Markup('<polyline class="{}" points="{}"/>')

Values = Sequence[float | None]


@dataclasses.dataclass(frozen=True)
class Axes:
    """A plane of data coordinates inside the picture."""

    x_low: float
    x_high: float
    y_low: float
    y_high: float

    def x(self, value: float) -> float:
        """Return the horizontal position of a value."""
        return LEFT + (value - self.x_low) / ((self.x_high - self.x_low) or 1) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        """Return the vertical position of a value."""
        return HEIGHT - BOTTOM - (value - self.y_low) / ((self.y_high - self.y_low) or 1) * (HEIGHT - TOP - BOTTOM)

    def grid(self, x_ticks: Iterable[float], y_ticks: Iterable[float], *, x_title: str) -> Markup:
        """Return horizontal grid lines, tick labels and the title of the x axis.

        Args:
            x_ticks: Labelled values of the x axis.
            y_ticks: Labelled values of the y axis.
            x_title: Title of the x axis.
        """
        across = [
            _LINE.format("grid", LEFT, self.y(tick), WIDTH - RIGHT, self.y(tick))
            + _TEXT.format("tick end", LEFT - 6, self.y(tick) + 4, f"{tick:.4g}")
            for tick in y_ticks
        ]
        along = [_TEXT.format("tick middle", self.x(tick), HEIGHT - BOTTOM + 16, f"{tick:.4g}") for tick in x_ticks]
        title = _TEXT.format("tick middle", (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 4, x_title)
        return Markup("").join([*across, *along, title])


@dataclasses.dataclass(frozen=True)
class Figure:
    """Picture with a title; ``legend`` pairs the class of a line with its name."""

    title: str
    svg: Markup
    legend: tuple[tuple[str, str], ...] = ()


def learning_curves(training: Training) -> tuple[Figure, ...]:
    """Return one figure per quantity of the history, with training and validation."""
    names = [name for name in training.history if not name.startswith("val_")]
    alone = [name for name in training.history if name.startswith("val_") and name[4:] not in names]
    return tuple(_learning_curve(training, name) for name in names + alone if any(_present(training.history[name])))


def _learning_curve(training: Training, name: str) -> Figure:
    lines = {"train": training.history[name], "eval": training.history.get(f"val_{name}", ())}
    lines = {css: values for css, values in lines.items() if _present(values)}
    title = name.replace("_", " ").capitalize()
    marked = training.kept_epoch
    return Figure(
        title=title,
        svg=line_chart(lines, label=f"{title} per epoch", x_title="epoch", marked_x=marked),
        legend=tuple((css, css) for css in lines if len(lines) > 1) + ((("mark", "epoch kept"),) if marked else ()),
    )


def line_chart(lines: Mapping[str, Values], *, label: str, x_title: str, marked_x: int | None = None) -> Markup:
    """Return a chart of lines over 1, 2, 3, ...; None leaves a gap.

    Args:
        lines: Values by the class of the line.
        label: Description for screen readers.
        x_title: Title of the x axis.
        marked_x: Position of a vertical mark.
    """
    present = [value for values in lines.values() for value in _present(values)]
    if not present:
        return Markup("")
    longest = max(len(values) for values in lines.values())
    y_ticks = _ticks(min(present), max(present))
    axes = Axes(1, max(longest, 2), y_ticks[0], y_ticks[-1])
    x_ticks = [tick for tick in _ticks(1, max(longest, 2), whole=True) if 1 <= tick <= longest]
    parts = [axes.grid(x_ticks, y_ticks, x_title=x_title)]
    if marked_x:
        parts.append(_LINE.format("mark", axes.x(marked_x), TOP, axes.x(marked_x), HEIGHT - BOTTOM))
    parts += [_polyline(axes, values, css) for css, values in lines.items()]
    return _SVG.format(WIDTH, HEIGHT, label, Markup("").join(parts))


def calibration_chart(bins: Sequence[CalibrationBin]) -> Markup:
    """Return a chart of accuracy over stated confidence; grey columns show the clips of each bin."""
    axes = Axes(0, 1, 0, 1)
    ticks = (0, 0.25, 0.5, 0.75, 1)
    most = max((each.clips for each in bins), default=0) or 1
    parts = [axes.grid(ticks, ticks, x_title="stated confidence")]
    for each in bins:
        top = axes.y(0.35 * each.clips / most)
        width = axes.x(each.high) - axes.x(each.low) - 2
        parts.append(_BAR.format("column", axes.x(each.low) + 1, top, width, axes.y(0) - top, f"{each.clips} clips"))
    parts.append(_LINE.format("ideal", axes.x(0), axes.y(0), axes.x(1), axes.y(1)))
    filled = [each for each in bins if each.confidence is not None and each.accuracy is not None]
    points = " ".join(f"{axes.x(each.confidence or 0):.1f},{axes.y(each.accuracy or 0):.1f}" for each in filled)
    parts.append(_PATH.format("line test", points))
    for each in filled:
        words = f"confidence {each.confidence:.0%}, accuracy {each.accuracy:.0%} of {each.clips} clips"
        parts.append(_DOT.format("dot test", axes.x(each.confidence or 0), axes.y(each.accuracy or 0), 3.5, words))
    return _SVG.format(WIDTH, HEIGHT, "Accuracy by stated confidence", Markup("").join(parts))


def drift_chart(features: Sequence[DriftedFeature]) -> Markup:
    """Return a chart of the KS statistic of each feature with its threshold as a dash."""
    axes = Axes(0, 1, len(features), 0)
    parts = [axes.grid((0, 0.25, 0.5, 0.75, 1), (), x_title="KS statistic")]
    for row, feature in enumerate(features):
        middle = axes.y(row + 0.5)
        seen, bound = feature.ks.value or 0.0, feature.ks.threshold or 0.0
        words = f"{feature.name}: {seen:.3f}, by chance up to {bound:.3f}"
        parts.append(_TEXT.format("tick end", LEFT - 6, middle + 4, feature.name))
        parts.append(_LINE.format("grid", LEFT, middle, axes.x(1), middle))
        parts.append(_LINE.format("ideal", axes.x(min(bound, 1)), axes.y(row), axes.x(min(bound, 1)), axes.y(row + 1)))
        parts.append(_DOT.format("dot test", axes.x(seen), middle, 3.5, words))
    return _SVG.format(WIDTH, HEIGHT, "Kolmogorov-Smirnov statistic by feature", Markup("").join(parts))


def label_shift_chart(before: Mapping[str, float | None], now: Mapping[str, float | None]) -> Markup | None:
    """Return a chart of the share of each emotion, before as a column, now as a dot; None without labels."""
    if not before:
        return None
    most = max([share or 0.0 for share in (*before.values(), *now.values())] + [0.01])
    axes = Axes(0, len(before), 0, most)
    parts = [axes.grid((), _ticks(0, most), x_title="")]
    for column, (emotion, share) in enumerate(before.items()):
        left, right, top = axes.x(column + 0.2), axes.x(column + 0.8), axes.y(share or 0.0)
        later = now.get(emotion) or 0.0
        words = f"{emotion}: {share or 0:.1%} before, {later:.1%} now"
        parts.append(_BAR.format("column", left, top, right - left, axes.y(0) - top, words))
        parts.append(_DOT.format("dot test", (left + right) / 2, axes.y(later), 3.5, words))
        parts.append(_TEXT.format("tick middle", (left + right) / 2, HEIGHT - BOTTOM + 16, emotion))
    return _SVG.format(WIDTH, HEIGHT, "Share of each emotion before and now", Markup("").join(parts))


def trials_chart(tuning: Tuning) -> Markup:
    """Return a chart of the score of each trial in their order, and of the best so far."""
    scored = [(order, trial) for order, trial in enumerate(tuning.trials, 1) if trial.score is not None]
    if not scored:
        return Markup("")
    scores = [trial.score or 0.0 for _, trial in scored]
    y_ticks = _ticks(min(scores), max(scores))
    count = max(len(tuning.trials), 2)
    axes = Axes(1, count, y_ticks[0], y_ticks[-1])
    x_ticks = [tick for tick in _ticks(1, count, whole=True) if 1 <= tick <= count]
    parts = [axes.grid(x_ticks, y_ticks, x_title="trial")]
    parts.append(_best_so_far(axes, [order for order, _ in scored], scores, tuning.higher_is_better))
    for order, trial in scored:
        words = f"trial {trial.name}: {trial.score:.4g}"
        parts.append(_DOT.format("dot test", axes.x(order), axes.y(trial.score or 0.0), 3.5, words))
    return _SVG.format(WIDTH, HEIGHT, f"{tuning.objective} of each trial", Markup("").join(parts))


def trial_curves_chart(tuning: Tuning) -> Markup:
    """Return a chart of the objective per epoch of every trial, the best one on top."""
    curves = [_from_first_epoch(trial) for trial in reversed(tuning.ranked) if _present(trial.curve)]
    if not curves:
        return Markup("")
    present = [value for curve in curves for value in _present(curve)]
    longest = max(2, *(len(curve) for curve in curves))
    y_ticks = _ticks(min(present), max(present))
    axes = Axes(1, longest, y_ticks[0], y_ticks[-1])
    x_ticks = [tick for tick in _ticks(1, longest, whole=True) if 1 <= tick <= longest]
    lines = [_polyline(axes, curve, "test" if curve is curves[-1] else "other") for curve in curves]
    parts = [axes.grid(x_ticks, y_ticks, x_title="epoch"), *lines]
    return _SVG.format(WIDTH, HEIGHT, f"{tuning.objective} per epoch of each trial", Markup("").join(parts))


def _from_first_epoch(trial: Trial) -> Values:
    """Return the curve with a gap for the epochs of the resumed trial."""
    return (None,) * (trial.first_epoch - 1) + trial.curve


def _best_so_far(axes: Axes, orders: Sequence[int], scores: Sequence[float], higher_is_better: bool) -> Markup:
    """Return a step line."""
    best, corners = scores[0], [f"{axes.x(orders[0]):.1f},{axes.y(scores[0]):.1f}"]
    for order, score in zip(orders[1:], scores[1:], strict=True):
        corners.append(f"{axes.x(order):.1f},{axes.y(best):.1f}")
        best = max(best, score) if higher_is_better else min(best, score)
        corners.append(f"{axes.x(order):.1f},{axes.y(best):.1f}")
    return _PATH.format("line other", " ".join(corners))


def _polyline(axes: Axes, values: Values, css: str) -> Markup:
    """Return one line with gaps for missing values; a point without a neighbour becomes a dot."""
    runs: list[list[tuple[float, float]]] = [[]]
    for order, value in enumerate(values, 1):
        if value is None:
            runs.append([])
        else:
            runs[-1].append((axes.x(order), axes.y(value)))
    drawn = [
        _PATH.format(f"line {css}", " ".join(f"{x:.1f},{y:.1f}" for x, y in run))
        if len(run) > 1
        else _DOT.format(f"dot {css}", *run[0], 3, css)
        for run in runs
        if run
    ]
    return Markup("").join(drawn)


def _ticks(low: float, high: float, *, whole: bool = False) -> list[float]:
    """Return round numbers that enclose the values."""
    if high - low < 1e-9 * max(abs(low), abs(high), 1e-9):
        low, high = low - 0.5, high + 0.5
    return [float(tick) for tick in MaxNLocator(nbins=4, integer=whole).tick_values(low, high)]


def _present(values: Values) -> list[float]:
    return [value for value in values if value is not None]

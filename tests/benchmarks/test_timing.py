from benchmarks import timing


class Clock:
    """Clock that the candidates advance."""

    def __init__(self):
        self.now_sec = 0.0

    def __call__(self):
        return self.now_sec

    def takes(self, durations_sec, order, name):
        """Return a candidate whose calls have these durations."""
        left = iter(durations_sec)

        def call():
            order.append(name)
            self.now_sec += next(left)

        return call


def test_medians_exclude_the_warm_up_rounds():
    clock, order = Clock(), []
    candidates = {
        "fast": clock.takes([100.0, 1.0, 2.0, 9.0], order, "fast"),
        "slow": clock.takes([100.0, 5.0, 5.0, 7.0], order, "slow"),
    }
    assert timing.median_seconds(candidates, rounds=3, warm_up_rounds=1, clock=clock) == {"fast": 2.0, "slow": 5.0}
    rounds = [order[start : start + 2] for start in range(0, len(order), 2)]
    assert all(sorted(names) == ["fast", "slow"] for names in rounds)


def test_the_order_changes_from_round_to_round():
    clock, order = Clock(), []
    candidates = {name: clock.takes([1.0] * 20, order, name) for name in ("one", "other")}
    timing.median_seconds(candidates, rounds=20, warm_up_rounds=0, clock=clock)
    assert {*order[::2]} == {"one", "other"}

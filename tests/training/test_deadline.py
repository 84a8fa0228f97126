"""When a run's time becomes a number of steps, by a clock of its own."""

from __future__ import annotations

import pytest

from audiotokens.training.config import ScheduleConfig
from audiotokens.training.deadline import Deadline

PLAIN = ScheduleConfig(steps=1000, cooldown=250)


class Clock:
    """Stands for time.monotonic."""

    now = 50.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("time.monotonic", clock)
    return clock


def first_change(clock: Clock, schedule: ScheduleConfig, paces: list[float], step: int = 0) -> object:
    """Steps at which the schedule changed, and what it became, where steps take so many seconds each."""
    deadline = Deadline(10, schedule, step)
    for pace in paces:
        clock.now += pace
        step += 1
        if (new := deadline.planned(schedule, step)) != schedule:
            return step, new.steps, new.cooldown, new.timed
    return None


def test_the_cooldown_has_its_share_of_the_time(clock: Clock) -> None:
    assert first_change(clock, PLAIN, [2.0] * 300) == (225, 300, 75, True)
    assert first_change(clock, PLAIN, [2.0] * 300, step=100) == (325, 400, 75, True)


def test_slow_first_steps_do_not_count(clock: Clock) -> None:
    # 150 s for the first step, then 300 s for 300 steps; the last 150 s have room for 150.
    assert first_change(clock, PLAIN, [150.0, *[1.0] * 400]) == (301, 451, 150, True)


def test_steps_decide_where_they_come_first_or_time_has_decided(clock: Clock) -> None:
    assert first_change(clock, PLAIN, [0.1] * 1000) is None
    assert first_change(clock, ScheduleConfig(steps=300, cooldown=75, timed=True), [2.0] * 300) is None
    assert first_change(clock, ScheduleConfig(steps=1000), [2.0] * 300) is None
    assert (
        first_change(clock, ScheduleConfig(steps=500, cooldown=100, extensions=(900,)), [2.0] * 300) is None
    )


def test_one_step_may_take_all_of_the_time(clock: Clock) -> None:
    assert first_change(clock, PLAIN, [700.0]) == (1, 2, 1, True)
    deadline = Deadline(1, PLAIN, 0)
    assert not deadline.over()
    clock.now += 60
    assert deadline.over()

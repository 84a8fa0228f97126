"""Runs whose length is a time: minutes become a number of steps when the cooldown is due."""

from __future__ import annotations

import time
from dataclasses import replace

from audiotokens.training.config import ScheduleConfig


class Deadline:
    """The time that a run has, counted from now.

    The cooldown's share of the steps becomes its share of the time: T seconds for a schedule of s steps with
    a cooldown of c begin to cool down after T (1 - c / s). The steps that the rest of the time has room for,
    at the speed of the second half of the time until then, become the cooldown. From there on steps decide
    again, so that the run can be resumed like any other.

    Args:
        minutes: from now on.
        schedule: of the run.
        step: steps done.
    """

    def __init__(self, minutes: float, schedule: ScheduleConfig, step: int) -> None:
        start, length = time.monotonic(), 60 * minutes
        self._end = start + length
        self._cooldown = start + length * (1 - schedule.cooldown / schedule.steps)
        # Halfway to the cooldown: what only the first steps pay for is over.
        self._middle = (start + self._cooldown) / 2
        self._seen = (step, start)

    def over(self) -> bool:
        """Whether the time is up."""
        return time.monotonic() >= self._end

    def planned(self, schedule: ScheduleConfig, step: int) -> ScheduleConfig:
        """Return the schedule after `step` steps, with another length where the cooldown is due now."""
        if schedule.timed or schedule.extensions or not 0 < step <= schedule.open_until:
            return schedule
        now = time.monotonic()
        if now < self._cooldown:
            if now < self._middle:
                self._seen = (step, now)
            return schedule
        before, then = self._seen
        cooldown = max(1, round((self._end - now) * max(1, step - before) / max(1e-9, now - then)))
        steps = step + cooldown
        # A run with time enough for all of its steps keeps them.
        return (
            schedule
            if steps > schedule.steps
            else replace(schedule, steps=steps, cooldown=cooldown, timed=True)
        )

"""Progress of a run on stderr: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Mapping

_BAR = 24


class Progress:
    """Prints where a run stands.

    Args:
        last: number of steps of the run; may be changed.
        enabled: False prints only warnings.
    """

    def __init__(self, last: int, *, enabled: bool = True) -> None:
        self.last, self._enabled = last, enabled
        self._terminal = sys.stderr.isatty()
        self._rate: tuple[int, float] | None = None

    def show(self, record: Mapping[str, object]) -> None:
        """Print one record of the log."""
        for warning in _strings(record.get("warnings")):
            self._print(f"warning: step {record['step']}: {warning}", end="\n")
        if self._enabled:
            self._print(self._line(record), end="" if self._terminal else "\n")

    def close(self) -> None:
        """End the line of the bar."""
        if self._enabled and self._terminal:
            sys.stderr.write("\n")

    def _print(self, text: str, *, end: str) -> None:
        sys.stderr.write(("\r\x1b[K" if self._terminal else "") + text + end)
        sys.stderr.flush()

    def _line(self, record: Mapping[str, object]) -> str:
        step = int(str(record["step"]))
        parts = [f"{step:>6}/{self.last}"]
        if self._terminal:
            filled = round(_BAR * step / max(1, self.last))
            parts.append("█" * filled + "░" * (_BAR - filled))
        for label, key in (
            ("loss", "loss"),
            ("complex", "complex_stft"),
            ("mel", "log_mel"),
            ("loud", "loudness"),
        ):
            if key in record:
                parts.append(f"{label} {record[key]:.4f}")
        parts.append(f"{record['audio_seconds_per_second']:.0f} audio-s/s")
        return "  ".join(parts)


def _strings(value: object) -> list[str]:
    return [str(item) for item in value] if isinstance(value, list) else []

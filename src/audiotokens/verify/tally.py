"""Counting what differs, and how clearly each code was chosen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from audiotokens.tokens import Tokens
from audiotokens.verify.verdicts import PROMISES, Status, Verdict

Arrays = Mapping[str, np.ndarray]

ROUNDING = 1e-4
"""Largest margin, relative to the size of the latent, of a code that rounding in float32 may flip.

One operation rounds by up to 6e-8 of its result; this leaves room for what a deep net makes of that. A fault
that moves latents further flips clearer codes, too."""


@dataclass
class Tally:
    """Running count of one check.

    Args:
        unit: what is counted.
        tolerance: differences of samples up to this are kept, and reported.
        checked, flips, margin: as in `Verdict`.
        unexplained: differences that are no matter of rounding: of shapes, of samples, of a rule, or of codes
            without a margin.
        difference: largest difference of samples.
        faults: what went wrong, the first finding first.
        notes: remarks that are no faults.
        seen: margins of the codes that were compared.
    """

    unit: str = "codes"
    tolerance: float = 0.0
    checked: int = 0
    flips: int = 0
    margin: float | None = None
    unexplained: int = 0
    difference: float = 0.0
    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    seen: dict[tuple[int, str], np.ndarray] = field(default_factory=dict)

    def status(self, rounding: float | None = None) -> Status:
        """Say how it went: flips with margins of at most `rounding` are counted, others break the promise."""
        if not self.faults:
            return "kept"
        explained = rounding is not None and not self.unexplained and (self.margin or 0.0) <= rounding
        return "counted" if explained else "broken"

    def expect(self, holds: bool, fault: str) -> None:
        """Count one yes-or-no finding."""
        self.checked += 1
        if not holds:
            self._fault(1, fault)

    def compare_codes(
        self, expected: Arrays, found: Arrays, where: str, margins: Arrays | None = None
    ) -> None:
        """Count the codes `[K, T]` that differ, stream by stream; a missing or spare frame counts whole.

        Where streams have several rates, a finer one codes what the coarser ones before it left over, so that
        its codes follow from theirs.
        """
        follows: np.ndarray | None = None
        for name, wanted in expected.items():
            got = found.get(name, wanted[:, :0])
            frames = min(wanted.shape[1], got.shape[1])
            self.checked += max(wanted.size, got.size)
            if wanted.shape != got.shape:
                fault = f'{where}: "{name}" is {list(got.shape)}, expected {list(wanted.shape)}'
                self._fault(abs(wanted.size - got.size), fault)
                if wanted.shape[0] != got.shape[0]:
                    continue
            differ = wanted[:, :frames] != got[:, :frames]
            self._see(name, wanted, (margins or {}).get(name))
            excused = _stretched(follows, frames)
            if differ.any():
                self.flips += int(differ.sum())
                frame = int(differ.any(0).argmax())
                self.faults.append(f'{where}: "{name}" differs from frame {frame} of {frames} on')
                self._explain(differ, wanted, got, (margins or {}).get(name), excused)
            if not np.issubdtype(wanted.dtype, np.floating):
                changed = differ.any(0)
                follows = changed if excused is None else excused | changed

    def compare_samples(self, expected: np.ndarray, found: np.ndarray, where: str) -> None:
        """Count the samples `[C, N]` that differ by more than the tolerance."""
        self.checked += expected.size
        if expected.shape != found.shape:
            fault = f"{where}: {found.shape[-1]} samples, expected {expected.shape[-1]}"
            self._fault(abs(expected.size - found.size), fault)
            return
        apart = np.abs(expected.astype(np.float64) - found)
        self.difference = max(self.difference, float(apart.max(initial=0.0)))
        # Written so that NaN counts as a difference.
        beyond = ~(apart <= self.tolerance)
        if beyond.any():
            sample = int(beyond.any(0).argmax())
            fault = f"{where}: differs from sample {sample} on, by up to {short(float(apart.max()))}"
            self._fault(int(beyond.sum()), fault)

    def add(self, other: Tally) -> None:
        """Take over what another tally found."""
        self.checked += other.checked
        self.flips += other.flips
        self.unexplained += other.unexplained
        self.difference = max(self.difference, other.difference)
        self.faults += other.faults
        self.notes += other.notes
        self.seen |= other.seen
        self._raise_margin(other.margin)

    def verdict(self, promise: str, *, rounding: float | None = None) -> Verdict:
        """Sum up."""
        margins = np.concatenate([each.reshape(-1) for each in self.seen.values()] or [np.zeros(0)])
        # A book of one entry has no other choice, at an infinite distance.
        margins = margins[np.isfinite(margins)]
        smallest, median = (float(f(margins)) if margins.size else None for f in (np.min, np.median))
        detail = "; ".join([self._finding(smallest, median), *self.faults[:1], *self.notes])
        return Verdict(
            promise,
            PROMISES[promise],
            self.status(rounding),
            detail,
            checked=self.checked,
            flips=self.flips,
            per_million=self._rate,
            margin=self.margin,
            smallest_margin=smallest,
            median_margin=median,
        )

    @property
    def _rate(self) -> float:
        return 1e6 * self.flips / max(self.checked, 1)

    def _finding(self, smallest: float | None, median: float | None) -> str:
        compared = f"{self.checked:,} {self.unit}"
        if self.unit == "samples" and not self.flips:
            if not self.difference:
                return f"bit-exact in {compared}"
            return (
                f"within {short(self.tolerance)} in {compared} (largest difference {short(self.difference)})"
            )
        seen = "" if smallest is None or median is None else f"{short(smallest)}, median {short(median)}"
        if not self.flips:
            return f"0 in {compared}" + (f" (smallest margin {seen})" if seen else "")
        if self.unit not in ("codes", "samples"):
            return f"{self.flips:,} of {compared}"
        rate = f"{self._rate:,.{0 if self._rate >= 10 else 2}f} per million"
        largest = "" if self.margin is None else f" (largest margin {short(self.margin)})"
        return f"{rate}{largest} in {compared}" + (f" (smallest margin {seen})" if seen else "")

    def _fault(self, flips: int, fault: str) -> None:
        self.flips += flips
        self.unexplained += 1
        self.faults.append(fault)

    def _see(self, name: str, codes: np.ndarray, margins: np.ndarray | None) -> None:
        if margins is not None:
            # The arrays are kept by the subject, so that the number of one is not given to another.
            self.seen[id(margins), name] = margins[: codes.shape[0], : codes.shape[1]]

    def _explain(
        self,
        differ: np.ndarray,
        wanted: np.ndarray,
        got: np.ndarray,
        margins: np.ndarray | None,
        excused: np.ndarray | None,
    ) -> None:
        """Note how near the flipped codes were to the other choice; where that is unknown, say so."""
        frames = np.flatnonzero(differ.any(0))
        if np.issubdtype(wanted.dtype, np.floating):
            # A number beside the codes, such as the scale of a window, differs by this much of its size.
            wanted, got = wanted[:, frames], got[:, frames]
            apart, size = float(np.abs(wanted - got).max()), float(np.abs(wanted).max())
            self._raise_margin(apart / size if size else np.inf)
        elif margins is None or margins.shape[1] < differ.shape[1]:
            self.unexplained += 1
        else:
            if excused is not None:
                frames = frames[~excused[frames]]
            # Only the first flipped book of a frame was a near tie; the books after it follow from it.
            self._raise_margin(float(margins[differ.argmax(0)[frames], frames].max(initial=0.0)))

    def _raise_margin(self, margin: float | None) -> None:
        if margin is not None:
            self.margin = margin if self.margin is None else max(self.margin, margin)


def _stretched(flipped: np.ndarray | None, frames: int) -> np.ndarray | None:
    """Frames that follow from flipped ones of a coarser stream; None where the stream is not finer."""
    if flipped is None or frames <= len(flipped) or not len(flipped):
        return None
    stretched: np.ndarray = np.repeat(flipped, -(-frames // len(flipped)))[:frames]
    return stretched


def short(number: float) -> str:
    """Write a number with two digits, as 3.1e-7.

    Example:
        >>> short(1e-5), short(0.25)
        ('1e-5', '0.25')
    """
    return f"{number:.2g}".replace("e-0", "e-")


def arrays(tokens: Tokens) -> dict[str, np.ndarray]:
    """Return all that decoding reads, as arrays `[K, T]`: codes, durations, windows, conditioning."""
    found: dict[str, np.ndarray] = {}
    for name, stream in tokens.streams.items():
        found[name] = stream.codes
        if stream.durations is not None:
            found[f"durations of {name}"] = stream.durations[None]
        if stream.segments is not None:
            windows = [(w.start_sample, w.num_samples, w.frames, w.scale) for w in stream.segments]
            found[f"windows of {name}"] = np.array(windows, np.float64).reshape(-1, 4).T
    for name, item in tokens.conditioning.items():
        found[f"conditioning {name}"] = item.values
    return found

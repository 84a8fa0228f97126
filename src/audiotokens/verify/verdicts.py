"""What verifying found: one `Verdict` for each promise, and how it is written out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from audiotokens.tokens import Tokens

Status = Literal["kept", "broken", "not offered", "counted"]
Arrays = dict[str, np.ndarray]

PROMISES: dict[str, str] = {
    "I1": "alone and in a padded batch: equal codes",
    "I2": "place in the batch and neighbours change nothing",
    "I3": "encoding in chunks of any sizes gives the codes of one pass",
    "I4": "decoding in chunks of any sizes gives the samples of one pass",
    "I5": "again, with other thread counts, after training a copy: same codes",
    "I6": "another engine gives the same codes",
    "I7": "later audio never changes a frame beyond the look-ahead",
    "I8": "the length rule holds from 1 sample up",
    "I9": "tokens survive storage; damage never gives other tokens",
    "I10": "a legal prefix is the encode with that many codebooks",
}
"""The ten promises that every tokenizer makes: identifier -> what it says."""


@dataclass(frozen=True)
class Verdict:
    """What verifying found about one promise.

    Args:
        promise: "I1" to "I10".
        title: what the promise says.
        status: "counted" is for differences between engines, which are reported but break nothing.
        detail: the finding, in one line.
        checked: codes, samples, lengths or files that were compared.
        flips: how many of them differed.
        margin: largest decision margin of a flipped code, where the tokenizer offers margins.
    """

    promise: str
    title: str
    status: Status
    detail: str
    checked: int = 0
    flips: int = 0
    margin: float | None = None


@dataclass(frozen=True)
class Verification:
    """What verifying found about a tokenizer; `audiotokens.config.to_dict` makes it JSON.

    Args:
        tokenizer: its name.
        fingerprint: SHA-256 over its configuration and weights.
        thorough: whether the long checks ran.
        seed: of all random choices.
        verdicts: in the order of the promises.
    """

    tokenizer: str
    fingerprint: str
    thorough: bool
    seed: int
    verdicts: tuple[Verdict, ...]

    @property
    def broken(self) -> tuple[str, ...]:
        """Identifiers of the promises that are broken."""
        return tuple(verdict.promise for verdict in self.verdicts if verdict.status == "broken")

    @property
    def ok(self) -> bool:
        """Whether no promise is broken."""
        return not self.broken


def format_verification(verification: Verification) -> str:
    """Write a verification as text: one line for each promise, and a last line that sums up.

    Example:
        >>> verdict = Verdict("I3", PROMISES["I3"], "kept", "0 in 9,600 codes")
        >>> print(format_verification(Verification("example", "0" * 64, False, 0, (verdict,))))
        example 00000000, quick checks, seed 0
        I3   kept         encoding in chunks of any sizes gives the codes of one pass
                          0 in 9,600 codes
        kept 1, broken 0, not offered 0
    """
    extent = "thorough" if verification.thorough else "quick"
    lines = [
        f"{verification.tokenizer} {verification.fingerprint[:8]}, {extent} checks, seed {verification.seed}"
    ]
    for verdict in verification.verdicts:
        lines.append(f"{verdict.promise:<4} {verdict.status:<12} {verdict.title}")
        lines.append(" " * 18 + verdict.detail)
    counts = dict.fromkeys(("kept", "broken", "not offered"), 0)
    for verdict in verification.verdicts:
        counts[verdict.status] = counts.get(verdict.status, 0) + 1
    lines.append(", ".join(f"{status} {count}" for status, count in counts.items()))
    return "\n".join(lines)


@dataclass
class Tally:
    """Running count of one check.

    Args:
        unit: what is counted.
        tolerance: differences of samples up to this are kept, and reported.
        checked, flips, margin: as in `Verdict`.
        difference: largest difference of samples.
        faults: what went wrong, the first finding first.
        notes: remarks that are no faults.
    """

    unit: str = "codes"
    tolerance: float = 0.0
    checked: int = 0
    flips: int = 0
    margin: float | None = None
    difference: float = 0.0
    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def broken(self) -> bool:
        """Whether anything went wrong."""
        return bool(self.faults)

    def expect(self, holds: bool, fault: str) -> None:
        """Count one yes-or-no finding."""
        self.checked += 1
        if not holds:
            self.flips += 1
            self.faults.append(fault)

    def compare_codes(
        self, expected: Arrays, found: Arrays, where: str, margins: Arrays | None = None
    ) -> None:
        """Count the codes `[K, T]` that differ, stream by stream; a missing or spare frame counts whole."""
        for name, wanted in expected.items():
            got = found.get(name, wanted[:, :0])
            frames = min(wanted.shape[1], got.shape[1])
            self.checked += max(wanted.size, got.size)
            if wanted.shape != got.shape:
                self.flips += abs(wanted.size - got.size)
                self.faults.append(f'{where}: "{name}" is {list(got.shape)}, expected {list(wanted.shape)}')
                if wanted.shape[0] != got.shape[0]:
                    continue
            differ = wanted[:, :frames] != got[:, :frames]
            if differ.any():
                self.flips += int(differ.sum())
                frame = int(differ.any(0).argmax())
                self.faults.append(f'{where}: "{name}" differs from frame {frame} of {frames} on')
                self._note_margin(differ, (margins or {}).get(name))

    def compare_samples(self, expected: np.ndarray, found: np.ndarray, where: str) -> None:
        """Count the samples `[C, N]` that differ by more than the tolerance."""
        self.checked += expected.size
        if expected.shape != found.shape:
            self.flips += abs(expected.size - found.size)
            self.faults.append(f"{where}: {found.shape[-1]} samples, expected {expected.shape[-1]}")
            return
        apart = np.abs(expected.astype(np.float64) - found)
        self.difference = max(self.difference, float(apart.max(initial=0.0)))
        # Written so that NaN counts as a difference.
        beyond = ~(apart <= self.tolerance)
        if beyond.any():
            self.flips += int(beyond.sum())
            sample = int(beyond.any(0).argmax())
            self.faults.append(f"{where}: differs from sample {sample} on, by up to {apart.max():.2g}")

    def add(self, other: Tally) -> None:
        """Take over what another tally found."""
        self.checked += other.checked
        self.flips += other.flips
        self.difference = max(self.difference, other.difference)
        self.faults += other.faults
        self.notes += other.notes
        self._raise_margin(other.margin)

    def verdict(self, promise: str) -> Verdict:
        """Sum up."""
        status: Status = "broken" if self.broken else "kept"
        detail = "; ".join([self._finding(), *self.faults[:1], *self.notes])
        return Verdict(promise, PROMISES[promise], status, detail, self.checked, self.flips, self.margin)

    def _finding(self) -> str:
        if self.tolerance and not self.flips:
            if not self.difference:
                return f"bit-exact in {self.checked:,} {self.unit}"
            extent = f"{self.checked:,} {self.unit} (largest difference {self.difference:.2g})"
            return f"within {self.tolerance:g} in {extent}"
        if not self.flips:
            return f"0 in {self.checked:,} {self.unit}"
        if self.unit not in ("codes", "samples"):
            return f"{self.flips:,} of {self.checked:,} {self.unit}"
        rate = 1e6 * self.flips / max(self.checked, 1)
        finding = f"{rate:,.{0 if rate >= 10 else 2}f} per million {self.unit}"
        return finding if self.margin is None else f"{finding} (largest margin {self.margin:.2g})"

    def _note_margin(self, differ: np.ndarray, margins: np.ndarray | None) -> None:
        if margins is None or margins.shape[1] < differ.shape[1]:
            return
        frames = np.flatnonzero(differ.any(0))
        # Only the first flipped book of a frame was a near tie; the books after it follow from it.
        self._raise_margin(float(margins[differ.argmax(0)[frames], frames].max()))

    def _raise_margin(self, margin: float | None) -> None:
        if margin is not None:
            self.margin = margin if self.margin is None else max(self.margin, margin)


def arrays(tokens: Tokens) -> Arrays:
    """Return all that decoding reads, as arrays `[K, T]`: codes, durations, windows, conditioning."""
    found: Arrays = {}
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

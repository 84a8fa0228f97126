"""What verifying found: one `Verdict` for each promise, and how it is written out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Status = Literal["kept", "broken", "not offered", "counted"]

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

    A margin says how clearly a code was chosen: the distance to the nearest other choice, relative to the
    size of the latent. Margins are None where the tokenizer offers none.

    Args:
        promise: "I1" to "I10".
        title: what the promise says.
        status: "counted" is for differences that rounding explains, between engines or in fast mode, which
            are reported but break nothing.
        detail: the finding, in one line.
        checked: codes, samples, lengths or files that were compared.
        flips: how many of them differed.
        per_million: flips in a million of them.
        margin: largest margin of a flipped code.
        smallest_margin: of all codes that were compared.
        median_margin: of all codes that were compared.
        seconds: how long the check took.
    """

    promise: str
    title: str
    status: Status
    detail: str
    checked: int = 0
    flips: int = 0
    per_million: float = 0.0
    margin: float | None = None
    smallest_margin: float | None = None
    median_margin: float | None = None
    seconds: float = field(default=0.0, compare=False)


@dataclass(frozen=True)
class Verification:
    """What verifying found about a tokenizer; `audiotokens.config.to_dict` makes it JSON.

    Args:
        tokenizer: its name.
        fingerprint: SHA-256 over its configuration and weights.
        thorough: whether the long checks ran.
        seed: of all random choices.
        verdicts: in the order of the promises.
        exact: False where the tokenizer says that it runs in its fast mode.
        recordings: number of real recordings, or pieces of them; 0: signals made on the spot, or given ones.
        audio_seconds: their length together.
    """

    tokenizer: str
    fingerprint: str
    thorough: bool
    seed: int
    verdicts: tuple[Verdict, ...]
    exact: bool = True
    recordings: int = 0
    audio_seconds: float = 0.0

    @property
    def broken(self) -> tuple[str, ...]:
        """Identifiers of the promises that are broken."""
        return tuple(verdict.promise for verdict in self.verdicts if verdict.status == "broken")

    @property
    def ok(self) -> bool:
        """Whether no promise is broken."""
        return not self.broken

    @property
    def conditions(self) -> str:
        """How it was verified, as in "quick checks, seed 0"."""
        parts = ["thorough checks" if self.thorough else "quick checks"]
        if self.recordings:
            checks = ["thorough"] if self.thorough else []
            recordings = f"{self.recordings:,} recording{'' if self.recordings == 1 else 's'}"
            parts = [*checks, recordings, f"{self.audio_seconds / 60:.1f} minutes"]
        return ", ".join([*parts, *([] if self.exact else ["fast mode"]), f"seed {self.seed}"])

    @property
    def counts(self) -> dict[str, int]:
        """How many verdicts there are of each status; "counted" only where there is one."""
        found = dict.fromkeys(("kept", "broken", "not offered"), 0)
        for verdict in self.verdicts:
            found[verdict.status] = found.get(verdict.status, 0) + 1
        return found


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
    lines = [f"{verification.tokenizer} {verification.fingerprint[:8]}, {verification.conditions}"]
    for verdict in verification.verdicts:
        lines.append(f"{verdict.promise:<4} {verdict.status:<12} {verdict.title}")
        lines.append(" " * 18 + verdict.detail)
    lines.append(", ".join(f"{status} {count}" for status, count in verification.counts.items()))
    return "\n".join(lines)

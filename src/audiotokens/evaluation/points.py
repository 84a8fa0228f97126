"""What was measured: systems at operating points, files that went through them, and single values.

A *system* is a tokenizer at some number of books, a tokenizer without its quantizer, an anchor (a codec of
others at a fixed setting) or a calibration (a treatment whose effect is known). The field `tokenizer` is its
name. A *table* is a domain, or one corpus of a domain; nothing is ever averaged over two tables.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

Status = Literal["ok", "skipped", "failed"]
SystemKind = Literal["tokenizer", "unquantized", "anchor", "calibration"]


class Table(NamedTuple):
    """Key of one table: a domain, or one corpus of it.

    Args:
        domain: "speech", "music", "sound", or "unknown" where nobody said.
        group: name of the corpus, such as "LibriSpeech test-clean"; empty: the whole domain.
    """

    domain: str
    group: str = ""

    @property
    def title(self) -> str:
        """Heading for readers, such as "speech" or "speech, LibriSpeech test-clean"."""
        return f"{self.domain}, {self.group}" if self.group else self.domain


class Point(NamedTuple):
    """Key of one operating point in one table.

    Args:
        domain, group: the table.
        tokenizer: name of the system.
        num_codebooks: books used; 0 for anchors, calibrations, and a tokenizer without its quantizer.
    """

    domain: str
    tokenizer: str
    num_codebooks: int
    group: str = ""

    @property
    def table(self) -> Table:
        """The table that the point stands in."""
        return Table(self.domain, self.group)


@dataclass(frozen=True)
class Row:
    """One measure of one file at one operating point.

    Args:
        file: path below the compared folder; the key that pairs files between tokenizers.
        domain: "speech", "music", "sound", or "unknown" where nobody said.
        speaker: speaker or source recording, the unit of the intervals.
        tokenizer: name of the system.
        num_codebooks: books used, as in `Point`.
        metric: definition id, such as "mel/dac-eval".
        value: the measure; None unless `status` is "ok".
        status: "ok", "skipped" (not defined here, nothing went wrong) or "failed".
        reason: one sentence for everything that is not "ok".
        group: corpus that the tables are split by, or empty.
        weight: of the file in the mean: 1, or its number of words for a word error rate.
    """

    file: str
    domain: str
    speaker: str
    tokenizer: str
    num_codebooks: int
    metric: str
    value: float | None
    status: Status = "ok"
    reason: str = ""
    group: str = ""
    weight: float = 1.0

    def __post_init__(self) -> None:
        if (self.status == "ok") != (self.value is not None):
            raise ValueError(f"{self.metric} of {self.file}: status {self.status} with value {self.value}")
        if self.value is not None and math.isnan(self.value):
            raise ValueError(f"{self.metric} of {self.file}: NaN is not a value")
        if self.status != "ok" and not self.reason:
            raise ValueError(f"{self.metric} of {self.file}: status {self.status} without a reason")

    @property
    def point(self) -> Point:
        """The operating point that the row belongs to."""
        return Point(self.domain, self.tokenizer, self.num_codebooks, self.group)


@dataclass(frozen=True)
class FileRecord:
    """How one file went through one operating point, before any measure.

    Args:
        file, domain, speaker, tokenizer, num_codebooks: as in `Row`.
        status: "failed" when the file could not be read, encoded or decoded; the numbers below are then zero.
        reason: why it failed.
        duration: of the input, in seconds.
        file_bytes: size of the whole `.tok`; of an anchor the bytes of its coded frames; 0 where nothing is
            coded.
        reference_samples: length of the reference at the system's output rate, before alignment.
        output_samples: length of the reconstruction at that rate, before alignment.
        delay: samples at that rate by which this reconstruction is late (negative: early); None: peak too
            weak.
        shift: the system's delay, which was removed before measuring; None: nothing could be aligned.
        peak: normalized height of the correlation peak, 0 to 1.
        polarity: -1 where the reconstruction is inverted, else 1.
        gain: of the reconstruction against the reference, in dB (ratio of root mean squares); None for
            silence.
        clipped: share of reconstructed samples at or above full scale.
        encode_seconds: wall time of encoding; None for the files that were not timed.
        decode_seconds: wall time of decoding; likewise.
        group: corpus that the tables are split by, or empty.
        payload_bits: bits of the packed codes alone, with durations and conditioning where there are any; of
            an anchor 8 for each byte.
    """

    file: str
    domain: str
    speaker: str
    tokenizer: str
    num_codebooks: int
    status: Status = "ok"
    reason: str = ""
    duration: float = 0.0
    file_bytes: int = 0
    reference_samples: int = 0
    output_samples: int = 0
    delay: int | None = None
    shift: int | None = None
    peak: float = 0.0
    polarity: int = 1
    gain: float | None = None
    clipped: float = 0.0
    encode_seconds: float | None = None
    decode_seconds: float | None = None
    group: str = ""
    payload_bits: float = 0.0

    @property
    def point(self) -> Point:
        """The operating point that the record belongs to."""
        return Point(self.domain, self.tokenizer, self.num_codebooks, self.group)


@dataclass(frozen=True)
class OperatingPoint:
    """One system at one setting in one table: its cost. All bit rates are in bits per second.

    Args:
        domain, tokenizer, num_codebooks: the key, with `group`.
        fingerprint: of the tokenizer; of an anchor the SHA-256 of its definition.
        codes_per_second: frames per second times books, summed over the streams; 0 without codes.
        nominal_bitrate: from book sizes and frame rates alone; of an anchor what was asked for; None where
            nothing is coded.
        measured_bitrate: bits of the whole `.tok` files, or of an anchor's frames, over the duration of the
            input; None where nothing is coded or no file is ok.
        entropy_bitrate: the same content with every book at its zero-order entropy on these files
            (Miller-Madow); None without codes.
        encode_speed: audio seconds per wall second (1 over the real-time factor), on the timed files; None
            where nothing was timed.
        decode_speed: likewise.
        threads: threads that the timed code was allowed.
        delay_milliseconds: the delay that was removed, in ms (negative: early); None: nothing was aligned.
        confirmed: number of files whose own correlation peak confirms that delay within one sample.
        inverted: number of files whose reconstruction has the opposite sign.
        files: number of files given.
        failed: number of them that could not be read, encoded or decoded.
        seconds: audio of the ok files.
        group: corpus that the tables are split by, or empty.
        kind: "tokenizer"; "unquantized": the tokenizer's latents went straight into its decoder; "anchor": a
            codec to compare with; "calibration": a treatment with known effect, to be shown apart.
        title: for readers, such as "Opus 9 kbit/s"; empty: `tokenizer` says it.
        definition: of an anchor or calibration, with all options and versions.
        payload_bitrate: bits of the codes alone over the duration, without the file's header (about 300
            bytes) and checksums. Compare rates of tokenizers and anchors by this one: an anchor's bytes have
                no header
            either.
        processor: name of the processor of the timed code.
        timed: number of files that were timed.
    """

    domain: str
    tokenizer: str
    num_codebooks: int
    fingerprint: str
    codes_per_second: float
    nominal_bitrate: float | None
    measured_bitrate: float | None
    entropy_bitrate: float | None
    encode_speed: float | None
    decode_speed: float | None
    threads: int
    delay_milliseconds: float | None = None
    confirmed: int = 0
    inverted: int = 0
    files: int = 0
    failed: int = 0
    seconds: float = 0.0
    group: str = ""
    kind: SystemKind = "tokenizer"
    title: str = ""
    definition: str = ""
    payload_bitrate: float | None = None
    processor: str = ""
    timed: int = 0

    @property
    def point(self) -> Point:
        """The key of this operating point."""
        return Point(self.domain, self.tokenizer, self.num_codebooks, self.group)

    @property
    def flagged(self) -> bool:
        """Whether more than 1 % of the files failed."""
        return self.failed > 0.01 * self.files

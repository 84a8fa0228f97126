"""Restored latents through the frozen decoder, and measures of the sound on clips of the test split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from audiotokens.audio import read_audio
from audiotokens.codec import Codec
from audiotokens.errors import MetricError, MissingExtraError
from audiotokens.evaluation.metrics import EVALUATION_RATE, get_metrics
from audiotokens.evaluation.quantizer_study.latents import LatentSet

REFERENCE_MEASURES = ("pesq-wb", "estoi", "mel/vocos")
OPINION_MEASURES = ("dnsmos/ovrl", "dnsmos/sig", "distillmos")
"""What needs no reference; models whose packages are not installed are left out."""
LONGEST = 6.0
"""Seconds of a clip that are listened to."""

Heard = dict[str, tuple[float | None, ...]]
"""By measure, the value of each clip; None where the measure is not defined."""


@dataclass(frozen=True)
class Clip:
    """A recording to listen to.

    Args:
        index: among the test files.
        speaker: who speaks.
        reference: float32 `[T]` at `EVALUATION_RATE`.
    """

    index: int
    speaker: str
    reference: np.ndarray


class Listener:
    """Decodes and measures clips, one of each speaker.

    Args:
        codec: whose decoder is used; its output rate must be `EVALUATION_RATE`.
        latents: any set of the test split.
        count: most clips.
        opinions: whether to ask models for their opinion, which takes most of the time.
    """

    def __init__(self, codec: Codec, latents: LatentSet, count: int, *, opinions: bool = True) -> None:
        self._codec = codec
        self.clips = tuple(_clips(codec, latents, count))
        wanted = (*REFERENCE_MEASURES, *(OPINION_MEASURES if opinions else ()))
        self._metrics = {metric.id: metric for metric in get_metrics(wanted)}
        self.notes: dict[str, str] = {}
        self.all = wanted

    def hear(self, latents: LatentSet, rows: np.ndarray, measures: Sequence[str]) -> Heard:
        """Decode restored rows `[M, D]` of the whole test split, and measure the clips."""
        slices = latents.about.test.slices()
        values: dict[str, list[float | None]] = {name: [] for name in measures}
        for clip in self.clips:
            frames = rows[slices[clip.index]][: self._frames]
            sound = self._codec.decode_features(latents.restored(frames))[0]
            length = min(len(sound), len(clip.reference))
            for name in values:
                values[name].append(self._measured(name, clip.reference[:length], sound[:length]))
        return {name: tuple(found) for name, found in values.items() if any(v is not None for v in found)}

    @property
    def _frames(self) -> int:
        return int(LONGEST * float(self._codec.spec.frame_rate))

    def _measured(self, name: str, reference: np.ndarray, sound: np.ndarray) -> float | None:
        if name in self.notes:
            return None
        try:
            return float(self._metrics[name](reference, sound))
        except MetricError:
            return None
        except MissingExtraError as error:
            self.notes[name] = str(error)
            return None


def _clips(codec: Codec, latents: LatentSet, count: int) -> list[Clip]:
    """The first file of each speaker, in the order of the test split."""
    chosen: dict[str, int] = {}
    for index, speaker in enumerate(latents.about.test.speakers):
        chosen.setdefault(speaker, index)
    clips = []
    for speaker, index in list(chosen.items())[:count]:
        waveform, _ = codec.prepare(*read_audio(Path(latents.about.test.files[index])))
        reference = np.asarray(waveform[0][: int(LONGEST * EVALUATION_RATE)], np.float32)
        clips.append(Clip(index, speaker, reference))
    return clips

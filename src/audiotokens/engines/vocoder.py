"""`OnnxVocoder`: an exported vocoder, with numpy and ONNX Runtime only."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Self

import numpy as np

from audiotokens.audio import WaveformLike
from audiotokens.engines.graphs import Graphs, read_exported
from audiotokens.engines.sessions import GraphSession
from audiotokens.engines.steps import Net, Runtime
from audiotokens.errors import CheckpointError, NotOfferedError
from audiotokens.spec import FeatureSpec, Spec
from audiotokens.vocoder import Synthesizer, Vocoder


class OnnxVocoder(Vocoder):
    """A vocoder whose graphs run in ONNX Runtime; `load` makes it. Its analysis of audio is not exported."""

    def __init__(self, folder: Path, spec: Spec, graphs: Graphs, *, exact: bool = True) -> None:
        if graphs.decoder is None or graphs.decoder.offline is None:
            raise CheckpointError(f"{folder}: graphs.json names no decoder: export again")
        self._spec, self._graphs = spec, graphs
        most_steps = max(round(spec.frame_rate), 1)
        size = (spec.features or FeatureSpec("", graphs.latent, spec.frame_rate)).size
        self._net = Net(Runtime(folder), graphs.decoder, size, most_steps=most_steps, exact=exact)

    @classmethod
    def load(cls, folder: str | os.PathLike[str], *, exact: bool = True) -> Self:
        """Load a vocoder's folder that holds exported graphs; errors and arguments as of `OnnxTokenizer`."""
        path = Path(folder)
        return cls(path, *read_exported(path), exact=exact)

    @property
    def spec(self) -> Spec:
        return self._spec

    @property
    def fingerprint(self) -> str:
        return self._graphs.fingerprint

    def features(self, waveform: WaveformLike, sample_rate: int) -> np.ndarray:
        raise NotOfferedError(
            f'the graphs of {self.spec.name} hold no analysis of audio: load it with the engine "torch"'
        )

    def synthesizer(self) -> OnnxSynthesizer:
        if not self._net.streams:
            raise NotOfferedError(f"{self.spec.name} was exported without graphs for streams: use synthesize")
        return OnnxSynthesizer(self, self._net)

    def _synthesize(self, features: np.ndarray) -> np.ndarray:
        parts, _ = self._net.advance(features[None], self._net.begin(), final=True)
        waveform: np.ndarray = np.concatenate(parts, 2)[0]
        return waveform


class OnnxSynthesizer(GraphSession, Synthesizer):
    """A running `OnnxVocoder`."""

    def __init__(self, vocoder: OnnxVocoder, net: Net) -> None:
        super().__init__(vocoder, net)
        self._vocoder = vocoder

    def push(self, features: np.ndarray) -> np.ndarray:
        self._check_open()
        return self._advance(self._vocoder.checked_features(features)[None], final=False)

    def finish(self) -> np.ndarray:
        self._check_open()
        self._counters["finished"] = 1
        return self._advance(self._net.begin().waiting, final=True)

    def _advance(self, features: np.ndarray, *, final: bool) -> np.ndarray:
        parts, self._state = self._net.advance(features, self._state, final=final)
        self._counters["received"] += features.shape[2]
        nothing = np.zeros((1, self._vocoder.spec.channels, 0), np.float32)
        samples: np.ndarray = np.concatenate([nothing, *parts], 2)[0]
        self._counters["returned"] += samples.shape[1]
        return samples

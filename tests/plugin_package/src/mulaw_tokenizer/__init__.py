"""Mu-law companding (ITU-T G.711, its continuous form): one code of 256 for every sample at 16 kHz."""

from __future__ import annotations

import hashlib
from fractions import Fraction

import numpy as np

from audiotokens import CodeStream, Conditioning, Spec, StreamSpec, Tokenizer, Tokens

SIZE = 256
MU = SIZE - 1


class MuLawTokenizer(Tokenizer):
    """Every sample on its own: the logarithm of its magnitude in 256 steps."""

    @property
    def spec(self) -> Spec:
        return Spec(
            name="mu-law-256",
            sample_rate=16000,
            output_sample_rate=16000,
            streams=(StreamSpec("codes", (SIZE,), Fraction(16000)),),
            legal_prefixes=(1,),
            architecture="mu-law",
            causal=True,
            receptive_field=1,
            weights_license="CC0-1.0",
            source="ITU-T G.711",
        )

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(b"mu-law, 256 codes, 16 kHz").hexdigest()

    def _encode(
        self, waveform: np.ndarray, num_codebooks: int
    ) -> tuple[dict[str, CodeStream], dict[str, Conditioning]]:
        exact = np.clip(waveform.astype(np.float64), -1.0, 1.0)
        companded = np.sign(exact) * np.log1p(MU * np.abs(exact)) / np.log1p(MU)
        codes = np.rint((companded + 1.0) * MU / 2).astype(np.int64)
        return {"codes": CodeStream(codes, (SIZE,), Fraction(16000))}, {}

    def _decode(self, tokens: Tokens) -> np.ndarray:
        companded = 2.0 * tokens.codes / MU - 1.0
        waveform: np.ndarray = np.sign(companded) * np.expm1(np.abs(companded) * np.log1p(MU)) / MU
        return waveform

"""Spectrograms as blocks: what a vocoder reads, and what its last layer says about the spectrum it makes."""

from __future__ import annotations

import math
from fractions import Fraction

import torch
from torch import Tensor
from torch.nn import functional

from audiotokens.nn.block import Block, Pointwise, Reach, State, concat_time
from audiotokens.nn.products import frames_product
from audiotokens.nn.transforms import Padding

_LARGEST = 1e2


class LogMel(Block):
    """Logarithm of the mel spectrogram of magnitudes, `[B, 1, T]` to `[B, bands, T']`.

        y_b[t] = ln max(floor, sum_k f_bk |X_k[t]|)

    with X the STFT under a periodic Hann window, and the signal reflected at both ends. A signal too short
    for that is filled up with zeros to `min_samples`. The state is the samples from those on that windows to
    come and the reflection at the end read, and a tensor as long as the part of them that no window reads.

    Args:
        sample_rate: in Hz.
        n_fft: length of window and transform.
        hop: samples per frame.
        bands: number of mel bands, from 0 Hz to half the rate.
        padding: "center": n_fft / 2 samples are reflected, and frames are T // hop + 1. "same":
            (n_fft - hop) // 2 samples are, and frames are T // hop, or (T - 1) // hop for an odd n_fft - hop.
        floor: smallest magnitude of a band.
    """

    window: Tensor
    filters: Tensor

    def __init__(
        self, sample_rate: int, n_fft: int, hop: int, bands: int, *, padding: Padding, floor: float = 1e-7
    ) -> None:
        super().__init__()
        self.n_fft, self.hop, self.floor = n_fft, hop, floor
        self.margin = n_fft // 2 if padding == "center" else (n_fft - hop) // 2
        if n_fft < hop:
            raise ValueError(f"n_fft is {n_fft}, expected at least the hop, {hop}")
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)
        self.register_buffer("filters", mel_filters(sample_rate, n_fft, bands), persistent=False)

    @property
    def min_samples(self) -> int:
        """Samples that can be reflected and fill one window."""
        return max(self.margin + 1, self.n_fft - 2 * self.margin)

    @property
    def reach(self) -> Reach:
        # Reflection makes the first frames look further ahead, and the last ones further back.
        past = max(self.margin, 3 * self.margin - self.n_fft + 1)
        future = max(self.n_fft - self.margin, self.margin + 1) - self.hop
        return Reach(past, max(future, 0), Fraction(self.hop))

    def samples_needed(self, frames: int) -> float:
        return max((frames - 1) * self.hop + self.n_fft - self.margin, self.min_samples) if frames else 0

    def output_lengths(self, lengths: Tensor) -> Tensor:
        padded = lengths.clamp(min=self.min_samples) + 2 * self.margin
        return (padded - self.n_fft) // self.hop + 1

    def initial_state(self, batch: int, *, like: Tensor) -> State:
        return like.new_zeros(batch, 1, 0), like.new_zeros(batch, 0)

    def step(self, x: Tensor, state: State, *, final: bool = False) -> tuple[Tensor, State]:
        held, done = state
        x, read = concat_time(held, x), done.shape[1]
        if held.shape[2] < self.min_samples:
            if final:
                x = functional.pad(x, (0, max(self.min_samples - x.shape[2], 0)))
            if x.shape[2] < self.min_samples:
                return x.new_zeros(x.shape[0], len(self.filters), 0), (x, done)
            x = torch.cat([x[..., 1 : self.margin + 1].flip(2), x], 2)
        if final:
            last = x.shape[2] - 1
            x = torch.cat([x, x[..., last - self.margin : last].flip(2)], 2)
        frames = max((x.shape[2] - read - self.n_fft) // self.hop + 1, 0)
        following = read + frames * self.hop
        y = self._analyzed(x[..., read : following - self.hop + self.n_fft] if frames else x[..., :0])
        kept = max(2 * self.margin + 1, self.min_samples)
        start = min(x.shape[2] - kept, following)
        return y, (x[..., start:], x.new_zeros(x.shape[0], following - start))

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        if lengths is None:
            return super().forward(x)
        items = [super(LogMel, self).forward(x[i : i + 1, :, :n]) for i, n in enumerate(lengths.tolist())]
        longest = int(self.output_lengths(torch.tensor(x.shape[2])))
        return torch.cat([functional.pad(item, (0, longest - item.shape[2])) for item in items])

    def _analyzed(self, x: Tensor) -> Tensor:
        if not x.shape[2]:
            return x.new_zeros(x.shape[0], len(self.filters), 0)
        frames = x[:, 0].unfold(1, self.n_fft, self.hop) * self.window.to(x.dtype)
        magnitudes = torch.fft.rfft(frames).abs()
        bands = frames_product(magnitudes, self.filters.to(x.dtype).T.contiguous())
        return bands.clamp(min=self.floor).log().mT


def mel_filters(sample_rate: int, n_fft: int, bands: int) -> Tensor:
    """Triangles of height 1 that are equally wide in mel, float32 `[bands, n_fft // 2 + 1]`.

    mel(f) = 2595 log10(1 + f / 700) (O'Shaughnessy 1987, as in HTK), from 0 Hz to half the rate, all in
    float32 as torchaudio computes it: narrow triangles depend on that in the fourth digit.
    """
    top = float(sample_rate // 2)
    bins = torch.linspace(0, top, n_fft // 2 + 1)
    mels = torch.linspace(0, 2595 * math.log10(1 + top / 700), bands + 2)
    edges = 700 * (10 ** (mels / 2595) - 1)
    widths, distances = edges.diff()[:, None], edges[:, None] - bins
    return torch.minimum(-distances[:-2] / widths[:-1], distances[2:] / widths[1:]).clamp(min=0)


class PolarSpectrum(Pointwise):
    """Log-magnitudes m, then phases p, `[B, 2 F, T]` to real parts, then imaginary ones, `[B, 2 F, T]`.

    S = min(e^m, 100) (cos p + i sin p) (Siuzdak 2023, Vocos, section 3.2).
    """

    def map(self, x: Tensor) -> Tensor:
        magnitude, phase = x.mT.chunk(2, 2)
        magnitude = magnitude.exp().clamp(max=_LARGEST)
        return torch.cat([magnitude * phase.cos(), magnitude * phase.sin()], 2).mT


class SymmetricExponential(Pointwise):
    """sign(x) (e^|x| - 1), at most 100 on either side (Hafner et al. 2023)."""

    def map(self, x: Tensor) -> Tensor:
        return (x.sign() * x.abs().expm1()).clamp(-_LARGEST, _LARGEST)


class CosineMagnitude(Pointwise):
    """Log-magnitudes m, then phases p, `[B, 2 N, T]` to min(e^m, 100) cos p, `[B, N, T]`."""

    def map(self, x: Tensor) -> Tensor:
        magnitude, phase = x.mT.chunk(2, 2)
        return (magnitude.exp().clamp(max=_LARGEST) * phase.cos()).mT


class Clip(Pointwise):
    """Samples between -1 and 1."""

    def map(self, x: Tensor) -> Tensor:
        return x.clamp(-1, 1)

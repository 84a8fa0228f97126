"""Fixed transforms as blocks: MDCT analysis, IMDCT and ISTFT synthesis."""

from __future__ import annotations

import math
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from audiotokens.nn.block import State, mask_time
from audiotokens.nn.conv import OverlapAdd, Windowed, overlap_add
from audiotokens.nn.products import frames_product

Padding: TypeAlias = Literal["center", "same"]
"""How frames lie on the samples: frame t is centred on sample t hop, or on the middle of its own hop."""


def mdct_basis(hop: int) -> Tensor:
    """Windowed, orthonormal MDCT basis `[2 hop, hop]` in float64: analysis x B, synthesis by B transposed.

    B[n, k] = w[n] sqrt(2/N) cos(pi/N (n + 1/2 + N/2)(k + 1/2)) with the sine window w (Princen et al.
    1987): with time aliasing cancelled by overlap-add, analysis followed by synthesis is the identity.
    """
    n = torch.arange(2 * hop, dtype=torch.float64)[:, None]
    k = torch.arange(hop, dtype=torch.float64)[None]
    window = torch.sin(math.pi / (2 * hop) * (n + 0.5))
    return window * math.sqrt(2 / hop) * torch.cos(math.pi / hop * (n + 0.5 + hop / 2) * (k + 0.5))


class MDCT(Windowed):
    """`[B, 1, T]` to MDCT coefficients `[B, hop, ceil(T / hop)]`; frame t starts at sample t hop."""

    basis: Tensor

    def __init__(self, hop: int) -> None:
        super().__init__(1, span=2 * hop, stride=hop, lookahead=hop)
        self.register_buffer("basis", mdct_basis(hop).float(), persistent=False)

    @property
    def outputs(self) -> int:
        return self.stride

    def apply_windows(self, x: Tensor) -> Tensor:
        windows = x[:, 0].unfold(1, self.span, self.stride)
        return frames_product(windows, self.basis.to(x.dtype)).mT


class IMDCT(OverlapAdd):
    """MDCT coefficients of T frames `[B, hop, T]` to samples.

    Args:
        hop: N, samples per frame; the window is 2 N.
        padding: "center": the (T - 1) N samples that pairs of frames cover, which inverts `MDCT` when the
            coefficients of the frame before the first one (zero where the signal begins) are put first.
            "same": T N samples, and one more for an odd N: frame t is centred on the middle of its hop, and
            half a hop at either end keeps its time aliasing.
    """

    basis: Tensor

    def __init__(self, hop: int, *, padding: Padding = "center") -> None:
        centered = padding == "center"
        super().__init__(
            1,
            span=2 * hop,
            hop=hop,
            lookahead=hop if centered else hop // 2,
            trim=hop if centered else -(hop % 2),
        )
        self.register_buffer("basis", mdct_basis(hop).float().T.contiguous(), persistent=False)

    def synthesize(self, x: Tensor, tail: Tensor) -> Tensor:
        return overlap_add(frames_product(x.mT, self.basis.to(x.dtype)).mT, self.hop, tail)


class ISTFT(OverlapAdd):
    """STFT frames, real parts then imaginary, `[B, 2 (n_fft / 2 + 1), T]` to samples.

    Hann window and least-squares overlap-add (Griffin and Lim 1984).

    Args:
        n_fft: length of window and transform.
        hop: samples per frame.
        padding: "same": T hop samples, and one more for an odd n_fft - hop: frame t is centred on the middle
            of its hop (Siuzdak 2023, Vocos). "center": (T - 1) hop samples, frame t is centred on sample
            t hop.
    """

    window: Tensor

    def __init__(self, n_fft: int, hop: int, *, padding: Padding = "same") -> None:
        surplus = n_fft - hop
        if n_fft % 2 or surplus < 2:
            raise ValueError(f"n_fft is {n_fft}, expected an even number of at least hop + 2 = {hop + 2}")
        if padding == "center" and n_fft < 2 * hop:
            raise ValueError(f"n_fft is {n_fft}, expected at least 2 hops of {hop} for centered frames")
        lookahead, trim = (n_fft // 2, hop) if padding == "center" else (surplus // 2, -(surplus % 2))
        super().__init__(2, span=n_fft, hop=hop, lookahead=lookahead, trim=trim)
        self.n_fft = n_fft
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)

    def step(self, x: Tensor, state: State, *, final: bool = False) -> tuple[Tensor, State]:
        return self._normalized(torch.cat([x, torch.ones_like(x[:, :1])], 1), state, final)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        x = torch.cat([x, torch.ones_like(x[:, :1])], 1)
        if lengths is not None:
            x = mask_time(x, lengths)
        return self._normalized(x, self.initial_state(x.shape[0], like=x), True)[0]

    def _normalized(self, x: Tensor, state: State, final: bool) -> tuple[Tensor, State]:
        y, state = super().step(x, state, final=final)
        # Beyond an item's end there is no window at all.
        return y[:, :1] / y[:, 1:].clamp(min=1e-11), state

    def synthesize(self, x: Tensor, tail: Tensor) -> Tensor:
        """Sum windowed frames and squared windows; the last channel marks the frames that exist."""
        window = self.window.to(x.dtype)
        real, imaginary = x[:, :-1].mT.chunk(2, 2)
        spectra = torch.complex(real.contiguous(), imaginary.contiguous())
        frames = torch.fft.irfft(spectra, self.n_fft) * window
        squares = window.square() * x[:, -1:].mT
        parts = zip((frames, squares), tail.chunk(2, 1))
        return torch.cat([overlap_add(part.mT, self.hop, begun) for part, begun in parts], 1)

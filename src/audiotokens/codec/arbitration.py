"""Near ties decided in float64: the codes of a float64 encoder from one in float32.

A code flips only where its margin, the least change of the latent that may change it, is smaller than the
rounding errors of the arithmetic. So frames whose margins are all larger than a bound are taken as they are,
and the others are encoded again in float64, from as many samples before them as they depend on. The bound is
16 times the largest effect of rounding on a margin that is found on test signals.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from audiotokens.errors import NotOfferedError
from audiotokens.nn.block import Block, Reach, Sequential, State, concat_time
from audiotokens.nn.windows import LocalMHA
from audiotokens.quantizers import Quantizer

_SAFETY = 16
_MOST_HOPS = 400
_TEST_HOPS = 200


class Arbitrated(Block):
    """An encoder that gives float64 latents, rounded to float32, where rounding may decide a code.

    Args:
        net: the encoder in float32, with a bounded past.
        quantizer: whose codes are to be those of float64.
        channels: of the waveform.
        hop: samples per frame of the slowest stream.
        frames: latent frames per hop.

    Attributes:
        bound: a margin, relative to the length of the latent, below which a frame is encoded again.

    Raises:
        NotOfferedError: a frame depends on too much of the past, or the quantizer has no margins.
    """

    def __init__(
        self, net: Sequential, quantizer: Quantizer, channels: int, *, hop: int, frames: int
    ) -> None:
        super().__init__()
        past = net.reach.past
        windows = any(isinstance(block, LocalMHA) for block in net.modules())
        if net.unbounded or windows or math.isinf(past) or past > _MOST_HOPS * hop:
            far = "an unlimited past" if math.isinf(past) else f"a past of {past / hop:.0f} frames"
            far = "attention inside windows" if windows else far
            raise NotOfferedError(
                f'near ties cannot be decided apart, because of {net.unbounded or far}: give exact="float64"'
            )
        self.net, self.quantizer, self.hop, self.frames = net, quantizer, hop, frames
        self.past = -(-int(past) // hop) * hop
        self.wide = copy.deepcopy(net).double()
        self.bound = 0.0
        self.bound = _SAFETY * self._largest_effect(channels)

    @property
    def reach(self) -> Reach:
        return self.net.reach

    def samples_needed(self, frames: int) -> float:
        return self.net.samples_needed(frames)

    def output_lengths(self, lengths: Tensor) -> Tensor:
        return self.net.output_lengths(lengths)

    def initial_state(self, batch: int, *, like: Tensor) -> State:
        # The samples that frames to come depend on; how many came before them, and how many hops are out.
        counts = torch.zeros(batch, 2, dtype=torch.long, device=like.device)
        return (like.new_zeros(batch, 0, 0), counts, *self.net.initial_state(batch, like=like))

    def step(self, x: Tensor, state: State, *, final: bool = False) -> tuple[Tensor, State]:
        held, counts, *inner = state
        x_held = concat_time(held, x)
        y, after = self.net.step(x, tuple(inner), final=final)
        hops = -(-y.shape[2] // self.frames)
        if hops:
            y = y.clone()
            for item, latents, (start, first) in zip(x_held, y, counts.tolist()):
                self._decide(item, start, latents, first, final)
        counts = counts + counts.new_tensor([0, hops])
        keep = counts.new_tensor(self.hop) * counts[:, 1] - self.past
        drop = int((keep - counts[:, 0]).clamp(min=0).min())
        counts = counts + counts.new_tensor([drop, 0])
        return y, (x_held[..., drop:], counts, *after)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        if lengths is None:
            return super().forward(x)
        # Item by item, since each ends elsewhere.
        made = [super(Arbitrated, self).forward(item[None, :, :n]) for item, n in zip(x, lengths.tolist())]
        longest = max(item.shape[2] for item in made)
        return torch.cat([functional.pad(item, (0, longest - item.shape[2])) for item in made])

    def _decide(self, x: Tensor, start: int, latents: Tensor, first: int, final: bool) -> None:
        """Replace doubtful ones of the latents `[D, T]` of the hops from `first` on.

        `x` are samples `[C, N]`, the first of which is number `start`.
        """
        margin = self._margins(latents[None])
        missing = -len(margin) % self.frames
        doubtful = functional.pad(margin, (0, missing), value=math.inf).view(-1, self.frames).amin(1)
        for begin, end in _runs((doubtful < self.bound).tolist(), self.past // self.hop):
            begin_sample = max((first + begin) * self.hop - self.past, 0)
            piece = x[None, :, begin_sample - start :]
            needed = int(self.net.samples_needed((first + end) * self.frames)) - begin_sample
            last = final and (needed > piece.shape[2] or end * self.frames >= latents.shape[1])
            found = self._wide(piece if last else piece[..., :needed], final=last)[0]
            skipped = (first + begin - begin_sample // self.hop) * self.frames
            here = latents[:, begin * self.frames : end * self.frames]
            here.copy_(found[:, skipped : skipped + here.shape[1]])

    def _margins(self, latents: Tensor) -> Tensor:
        """The least margin of each frame of `[1, D, T]`, relative to the length of its latent, `[T]`."""
        codes = self.quantizer.encode(latents.float())
        found = self.quantizer.margins(latents.float(), codes)
        return -_largest([-part for part in _parts(found)], latents)

    def _largest_effect(self, channels: int) -> float:
        """By how much float32 changes a relative margin, at most, on a test signal."""
        like = next(self.net.parameters())
        x = _test_signal(channels, _TEST_HOPS * self.hop).to(like)
        with torch.inference_mode():
            narrow = self.net.step(x, self.net.initial_state(1, like=x), final=True)[0]
            wide = self._wide(x, final=True)
            codes = self.quantizer.encode(wide.float())
            both = (_parts(self.quantizer.margins(latents, codes)) for latents in (narrow, wide))
            # Margins of a single entry are infinite in both.
            effects = [torch.where(a == b, 0.0, (a - b).abs()) for a, b in zip(*both)]
            return float(_largest(effects, wide).amax())

    def _wide(self, x: Tensor, *, final: bool) -> Tensor:
        x = x.double()
        return self.wide.step(x, self.wide.initial_state(1, like=x), final=final)[0]


def _parts(found: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return found if isinstance(found, tuple) else (found,)


def _largest(parts: Sequence[Tensor], latents: Tensor) -> Tensor:
    """The largest of `[1, K_i, T_i]` at each frame of latents `[1, D, T]`, relative to its length, `[T]`."""
    frames = latents.shape[2]
    rows = [part[0].amax(0).repeat_interleave(-(-frames // part.shape[2]))[:frames] for part in parts]
    lengths = latents[0].double().norm(dim=0).clamp(min=torch.finfo(torch.float32).tiny)
    relative: Tensor = torch.stack(rows).amax(0) / lengths
    return relative


def _runs(doubtful: list[bool], gap: int) -> Iterator[tuple[int, int]]:
    """Begin and end of stretches that hold all doubtful hops; those at most `gap` apart are one."""
    begin = end = None
    for index in (index for index, each in enumerate(doubtful) if each):
        if begin is None or end is None or index - end > gap:
            if begin is not None and end is not None:
                yield begin, end
            begin = index
        end = index + 1
    if begin is not None and end is not None:
        yield begin, end


def _test_signal(channels: int, samples: int) -> Tensor:
    """Noise and tones `[1, channels, samples]` from very soft to loud."""
    random = torch.Generator().manual_seed(0)
    time = torch.arange(samples, dtype=torch.float64) / samples
    tones = torch.sin(600 * time**2).abs() - 0.5
    noise = torch.randn(channels, samples, dtype=torch.float64, generator=random)
    return (0.5 * 1e-4 ** (1 - time) * (noise * torch.sin(40 * time).square() + tones))[None]

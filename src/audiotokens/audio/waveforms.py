"""Waveforms as arrays: float32 `[C, T]` with full scale at 1.0, and the one resampler, soxr VHQ."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from audiotokens.audio.containers import MAX_CHANNELS, MAX_SAMPLE_RATE, MIN_SAMPLE_RATE
from audiotokens.errors import AudioError

RESAMPLER = "soxr-vhq"

Waveform: TypeAlias = npt.NDArray[np.float32]


class TensorLike(Protocol):
    """What is needed of a torch tensor; torch itself is never imported here."""

    def detach(self) -> Any:
        """Return the tensor without its graph."""


WaveformLike: TypeAlias = npt.NDArray[Any] | TensorLike


def as_waveform(waveform: WaveformLike) -> Waveform:
    """Return a waveform as C-contiguous float32 `[C, T]`.

    int16 is divided by 32,768 and int32 by 2,147,483,648; floats are kept as they are, also beyond [-1, 1].
    The input is never changed; float32 input that is contiguous is not copied.

    Args:
        waveform: numpy or torch, `[T]` or `[C, T]`, float, int16 or int32.

    Raises:
        AudioError: another type or shape, no samples, more than 64 channels, NaN or infinity.

    Example:
        >>> as_waveform(np.array([0, 16384], dtype=np.int16))
        array([[0. , 0.5]], dtype=float32)
    """
    array = _as_array(waveform)
    if array.ndim not in (1, 2):
        raise AudioError(f"the waveform has shape {array.shape}; expected [samples] or [channels, samples]")
    array = array.reshape(1, -1) if array.ndim == 1 else array
    if array.size == 0:
        raise AudioError(
            f"the waveform of shape {array.shape} is empty; expected at least one channel and one sample"
        )
    if array.shape[0] > MAX_CHANNELS:
        hint = "; is it [samples, channels]? then transpose it" if array.shape[1] <= MAX_CHANNELS else ""
        raise AudioError(
            f"the waveform has {array.shape[0]} channels; expected [channels, samples], at most 64{hint}"
        )
    with np.errstate(over="ignore"):
        result = np.ascontiguousarray(array, dtype=np.float32)
    if array.dtype.kind == "i":
        result *= np.float32(2.0 ** (1 - 8 * array.dtype.itemsize))
    elif not np.isfinite([result.min(), result.max()]).all():
        channel, sample = np.argwhere(~np.isfinite(result))[0]
        raise AudioError(
            f"the waveform is NaN or infinite at sample {sample:,}, channel {channel}; expected finite values"
        )
    return result


def _as_array(waveform: WaveformLike) -> npt.NDArray[Any]:
    if isinstance(waveform, np.ndarray):
        array = waveform
    elif hasattr(waveform, "detach"):
        tensor = waveform.detach().cpu()
        array = (tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor).numpy()
    else:
        raise AudioError(
            f"the waveform is a {type(waveform).__name__}; expected a numpy array or a torch tensor"
        )
    if array.dtype.kind != "f" and not (array.dtype.kind == "i" and array.dtype.itemsize in (2, 4)):
        raise AudioError(f"the waveform is of type {array.dtype}; expected float, int16 or int32")
    return array


def check_sample_rate(sample_rate: int) -> int:
    """Return a sample rate as a plain int.

    Raises:
        AudioError: it is no whole number from 1,000 to 768,000 Hz.
    """
    try:
        rate = operator.index(sample_rate)
    except TypeError:
        raise AudioError(f"the sample rate is {sample_rate!r}; expected a whole number of Hz") from None
    if isinstance(sample_rate, bool) or not MIN_SAMPLE_RATE <= rate <= MAX_SAMPLE_RATE:
        raise AudioError(
            f"the sample rate is {sample_rate} Hz; "
            f"expected {MIN_SAMPLE_RATE:,} to {MAX_SAMPLE_RATE:,}, such as 16000"
        )
    return rate


def mix_to_channels(waveform: Waveform, channels: int) -> Waveform:
    """Bring `[C, T]` to `[channels, T]`: the mean makes mono, and mono is repeated.

    Raises:
        AudioError: there is no agreed way, as from 6 channels to 2.
    """
    found = waveform.shape[0]
    if found == channels:
        return waveform
    if channels == 1:
        mean = waveform.sum(axis=0, dtype=np.float64, keepdims=True) / found
        return np.asarray(mean, np.float32)
    if found == 1:
        return np.repeat(waveform, channels, axis=0)
    raise AudioError(
        f"the waveform has {found} channels; expected {channels} or 1, so choose or mix the channels first"
    )


def regrouped(blocks: Iterable[Waveform], size: int) -> Iterator[Waveform]:
    """Cut blocks `[C, N]` of any sizes into C-contiguous ones of `size` samples; the last may be shorter."""
    held: list[Waveform] = []
    missing = size
    for block in blocks:
        while block.shape[1]:
            held.append(block[:, :missing])
            block = block[:, held[-1].shape[1] :]
            missing -= held[-1].shape[1]
            if not missing:
                yield np.ascontiguousarray(np.concatenate(held, axis=1))
                held, missing = [], size
    if held:
        yield np.ascontiguousarray(np.concatenate(held, axis=1))


def resample(waveform: Waveform, source_rate: int, target_rate: int) -> Waveform:
    """Change the rate of `[C, T]` with soxr VHQ, which adds no delay.

    The same input always gives the same output; channels do not influence each other. Equal rates return the
    input itself.

    Returns:
        float32 `[C, ceil(T * target_rate / source_rate)]`. soxr rounds that length to nearest; a sample
        that is missing at the end is zero.

    Raises:
        AudioError: a rate is outside 1,000 to 768,000 Hz, or the shape is not `[C, T]`.
    """
    import soxr

    source_rate, target_rate = check_sample_rate(source_rate), check_sample_rate(target_rate)
    if waveform.ndim != 2:
        raise AudioError(
            f"the waveform has shape {waveform.shape}; expected [channels, samples]: use as_waveform"
        )
    if source_rate == target_rate:
        return waveform
    length = -(-waveform.shape[1] * target_rate // source_rate)
    result = np.zeros((waveform.shape[0], length), dtype=np.float32)
    for row, channel in zip(result, waveform):
        made = soxr.resample(
            np.ascontiguousarray(channel, dtype=np.float32), source_rate, target_rate, quality="VHQ"
        )
        row[: len(made)] = made[:length]
    return result


class Resampler:
    """`resample` for a recording that comes block by block, in memory for one block.

    soxr computes the same numbers however the samples are cut: joined, the results are bit for bit what
    `resample` gives for the whole recording.

    Args:
        channels: number of channels C of all blocks.
        source_rate: of the blocks, in Hz.
        target_rate: of the results, in Hz.

    Raises:
        AudioError: a rate is outside 1,000 to 768,000 Hz.

    Example:
        >>> resampler = Resampler(1, 16000, 8000)
        >>> parts = [resampler.push(np.zeros((1, 100), np.float32)) for _ in range(3)]
        >>> np.concatenate([*parts, resampler.finish()], axis=1).shape
        (1, 150)
    """

    def __init__(self, channels: int, source_rate: int, target_rate: int) -> None:
        import soxr

        self._rates = check_sample_rate(source_rate), check_sample_rate(target_rate)
        self._channels = channels
        self._streams = [
            soxr.ResampleStream(source_rate, target_rate, 1, dtype="float32", quality="VHQ")
            for _ in range(channels if source_rate != target_rate else 0)
        ]
        self._received = self._returned = 0

    def push(self, block: Waveform) -> Waveform:
        """Take the next samples `[C, N]`; return those at the target rate that are final, `[C, M]`."""
        made = self._resampled(block, last=False) if self._streams else block
        self._received += block.shape[1]
        self._returned += made.shape[1]
        return made

    def finish(self) -> Waveform:
        """End the recording and return the remaining samples `[C, M]`."""
        source_rate, target_rate = self._rates
        length = -(-self._received * target_rate // source_rate) - self._returned
        result = np.zeros((self._channels, length), dtype=np.float32)
        if self._streams:
            rest = self._resampled(result[:, :0], last=True)[:, :length]
            result[:, : rest.shape[1]] = rest
        return result

    def _resampled(self, block: Waveform, *, last: bool) -> Waveform:
        channels = (np.ascontiguousarray(channel, dtype=np.float32) for channel in block)
        return np.stack([s.resample_chunk(each, last=last) for s, each in zip(self._streams, channels)])

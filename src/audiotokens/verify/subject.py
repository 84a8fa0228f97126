"""The tokenizer under test, with its waveforms, its random choices and what it already said."""

from __future__ import annotations

import hashlib
import sys
import zlib
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np

from audiotokens.errors import NotOfferedError
from audiotokens.spec import Spec
from audiotokens.tokenizer import Tokenizer
from audiotokens.tokens import Tokens
from audiotokens.verify.tally import ROUNDING, Arrays, Tally, arrays

if TYPE_CHECKING:
    from audiotokens.codec import Codec

T = TypeVar("T")
Batch = Callable[[Sequence[np.ndarray]], list[Arrays]]
"""One way to encode several waveforms `[C, N]` together; one result each."""


class Subject:
    """What all checks share.

    Args:
        tokenizer: the one under test.
        waveforms: name -> float32 `[C, N]` at the tokenizer's rate and channels.
        promises: identifiers of the promises that are being checked.
        seed: of all random choices.
        thorough: whether the long checks run.
        recorded: whether the waveforms are many real recordings, each of which is tried in few ways; else
            they are few and each is tried in many ways.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        waveforms: dict[str, np.ndarray],
        *,
        promises: Sequence[str],
        seed: int,
        thorough: bool,
        recorded: bool = False,
    ) -> None:
        self.tokenizer = tokenizer
        self.waveforms = waveforms
        self.promises = promises
        self.seed = seed
        self.thorough = thorough
        self.recorded = recorded
        self.shared: dict[str, Tally] = {}
        self._encoded: dict[tuple[bytes, int | None], Tokens] = {}
        self._margins: dict[bytes, dict[str, np.ndarray] | None] = {}

    @property
    def spec(self) -> Spec:
        """Facts about the tokenizer."""
        return self.tokenizer.spec

    @cached_property
    def codec(self) -> Codec | None:
        """The tokenizer, if it is a torch module that encodes padded batches of tensors."""
        torch = sys.modules.get("torch")
        if torch is None or not isinstance(self.tokenizer, torch.nn.Module):
            return None
        return cast("Codec", self.tokenizer) if hasattr(self.tokenizer, "encode_codes") else None

    @cached_property
    def smallest_prefix(self) -> int:
        """Fewest books that decode."""
        return min(self.spec.legal_prefixes)

    @property
    def exact(self) -> bool:
        """Whether the tokenizer claims that rounding flips no code; it does unless it says otherwise."""
        return bool(getattr(self.tokenizer, "exact", True))

    @property
    def rounding(self) -> float | None:
        """Margin up to which a flip is rounding and breaks nothing; None in exact mode, where all break."""
        return None if self.exact else ROUNDING

    def require(self, *, encode: bool = True, decode: bool = False) -> None:
        """Stop the check where the tokenizer does not offer what it needs.

        Raises:
            NotOfferedError: the spec says that it has no codes, cannot encode, or cannot decode.
        """
        if not self.spec.streams:
            raise NotOfferedError("it is a vocoder and has no codes")
        if encode and not self.spec.can_encode:
            raise NotOfferedError("it only decodes")
        if decode and not self.spec.can_decode:
            raise NotOfferedError("it only encodes")

    def random(self, purpose: str) -> np.random.Generator:
        """Random numbers that depend on the seed and the purpose only, not on what ran before."""
        return np.random.default_rng([self.seed, zlib.crc32(purpose.encode())])

    def longest(self, count: int) -> dict[str, np.ndarray]:
        """The `count` longest waveforms, longest first."""
        order = sorted(self.waveforms, key=lambda name: -self.waveforms[name].shape[1])
        return {name: self.waveforms[name] for name in order[:count]}

    def noise(self, random: np.random.Generator, num_samples: int, level: float = 0.3) -> np.ndarray:
        """Noise `[C, num_samples]` in the tokenizer's channels."""
        signal = level * random.standard_normal((self.spec.channels, num_samples))
        return np.clip(signal, -1, 1).astype(np.float32)

    def sound(self, random: np.random.Generator, num_samples: int) -> np.ndarray:
        """Some sound `[C, num_samples]`: a part of a recording where there are recordings, else noise."""
        long = [each for each in self.waveforms.values() if each.shape[1] >= num_samples]
        if not self.recorded or not long:
            return self.noise(random, num_samples)
        chosen = long[int(random.integers(len(long)))]
        start = int(random.integers(chosen.shape[1] - num_samples + 1))
        return chosen[:, start : start + num_samples]

    def share(self, items: Sequence[T], ways: int) -> list[Sequence[T]]:
        """Deal many recordings out to so many ways to try them; where there are few, each way gets all."""
        dealt = self.recorded and len(items) >= ways
        return [items[way::ways] if dealt else items for way in range(ways)]

    def plans(self, otherwise: int, thorough: int) -> int:
        """How often each waveform is tried at random: thorough tries are in all, recordings have one each."""
        if self.thorough:
            return thorough // len(self.waveforms) + 1
        return 1 if self.recorded else otherwise

    def encode(self, waveform: np.ndarray, num_codebooks: int | None = None) -> Tokens:
        """Encode a waveform that is at the tokenizer's rate."""
        return self.tokenizer.encode(waveform, self.spec.sample_rate, num_codebooks=num_codebooks)

    def alone(self, waveform: np.ndarray, num_codebooks: int | None = None) -> Tokens:
        """Tokens of a waveform on its own; encoded once."""
        key = (_digest(waveform), num_codebooks)
        if key not in self._encoded:
            self._encoded[key] = self.encode(waveform, num_codebooks)
        return self._encoded[key]

    def tokens(self, name: str, num_codebooks: int | None = None) -> Tokens:
        """Tokens of a waveform by its name; encoded once."""
        return self.alone(self.waveforms[name], num_codebooks)

    def margins(self, waveform: np.ndarray) -> Arrays | None:
        """Decision margins `[K, T]` by stream, if the tokenizer has `margins(waveform, sample_rate)`."""
        offered = getattr(self.tokenizer, "margins", None)
        if not callable(offered):
            return None
        key = _digest(waveform)
        if key not in self._margins:
            try:
                found = offered(waveform, self.spec.sample_rate)
                self._margins[key] = {name: np.asarray(each, np.float32) for name, each in found.items()}
            except NotOfferedError:
                self._margins[key] = None
        return self._margins[key]

    def compare(
        self, tally: Tally, expected: Arrays, found: Arrays, where: str, waveform: np.ndarray
    ) -> None:
        """Compare the codes of a waveform, with their margins where there are some."""
        tally.compare_codes(expected, found, where, self.margins(waveform))

    def batches(self) -> dict[str, Batch]:
        """The ways to encode several waveforms at once: `encode_batch`, and one padded call of tensors."""
        ways: dict[str, Batch] = {"encode_batch": self._list_batch}
        if self.codec is not None:
            ways["one padded call"] = self.padded_call
        return ways

    def padded_call(self, waveforms: Sequence[np.ndarray], padding: int = 0) -> list[Arrays]:
        """Encode a batch by `encode_codes`, all items padded with zeros to the longest one plus `padding`."""
        import torch

        codec: Any = self.codec
        lengths = [max(w.shape[1], self.spec.min_samples) for w in waveforms]
        batch = np.zeros((len(waveforms), self.spec.channels, max(lengths) + padding), np.float32)
        for row, waveform in zip(batch, waveforms):
            row[:, : waveform.shape[1]] = waveform
        codes, frames = codec.encode_codes(torch.from_numpy(batch), torch.tensor(lengths))
        return [
            {name: stream[i, :, : int(frames[name][i])].cpu().numpy() for name, stream in codes.items()}
            for i in range(len(waveforms))
        ]

    def _list_batch(self, waveforms: Sequence[np.ndarray]) -> list[Arrays]:
        return [arrays(tokens) for tokens in self.tokenizer.encode_batch(waveforms, self.spec.sample_rate)]


def _digest(waveform: np.ndarray) -> bytes:
    return hashlib.blake2b(np.ascontiguousarray(waveform).data, digest_size=16).digest()

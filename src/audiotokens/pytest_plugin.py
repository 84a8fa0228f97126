"""A pytest plugin: the fixture `promise` tries the ten promises on a tokenizer of your own, a test for each.

def test_promise(promise):
    promise.check(MyCodec())
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import os

    from audiotokens.audio import WaveformLike
    from audiotokens.tokenizer import Tokenizer
    from audiotokens.verify import Verdict

# Every run of pytest imports this file where audiotokens is installed; the rest is imported when it is used.


@dataclass(frozen=True)
class Promise:
    """One of the ten promises, "I1" to "I10"."""

    name: str

    def check(
        self,
        tokenizer: Tokenizer,
        *,
        waveforms: Sequence[WaveformLike] | Mapping[str, WaveformLike] | None = None,
        audio: Sequence[str | os.PathLike[str]] | None = None,
        seed: int = 0,
        thorough: bool = False,
    ) -> Verdict:
        """Fail the test if the promise is broken, and skip it where the tokenizer does not offer it.

        Args:
            tokenizer: any `Tokenizer`.
            waveforms: at the tokenizer's own rate; default: varied signals, made on the spot.
            audio: sound files to take instead.
            seed: of all random choices.
            thorough: takes minutes, and tries more of everything.

        Returns:
            The verdict, which is "kept", or "counted" where rounding explains all that differs.

        Raises:
            AudioTokensError: a waveform or file is not usable.
        """
        from audiotokens.verify import verify

        __tracebackhide__ = True
        # What I1 says about padding depends on whether neighbours leak.
        promises = ["I1", "I2"] if self.name == "I1" else [self.name]
        found = verify(
            tokenizer, promises=promises, waveforms=waveforms, audio=audio, seed=seed, thorough=thorough
        )
        verdict = found.verdicts[0]
        if verdict.status == "not offered":
            pytest.skip(verdict.detail)
        if verdict.status == "broken":
            pytest.fail(f"{found.tokenizer}, {self.name} {verdict.title}: {verdict.detail}", pytrace=False)
        return verdict


@pytest.fixture(params=[f"I{number}" for number in range(1, 11)])
def promise(request: pytest.FixtureRequest) -> Promise:
    """Each of the ten promises of a tokenizer in turn: `promise.check(MyCodec())`."""
    return Promise(request.param)

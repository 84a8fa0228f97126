"""Fixed codecs that tokenizers are heard and measured beside, and treatments whose effect is known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path

from audiotokens.errors import AudioTokensError
from audiotokens.evaluation.anchors.base import Anchor, Coded, Kind
from audiotokens.evaluation.anchors.codec2 import Codec2
from audiotokens.evaluation.anchors.ffmpeg import AmrNarrowBand, Opus
from audiotokens.evaluation.anchors.lyra import Lyra
from audiotokens.evaluation.anchors.treatments import (
    AnotherUtterance,
    Inverted,
    LowPass,
    Noisy,
    Original,
    Rounded,
    RoundTrip,
    Shift,
    Silence,
)

__all__ = [
    "ANCHORS",
    "GROUPS",
    "AmrNarrowBand",
    "Anchor",
    "AnotherUtterance",
    "Codec2",
    "Coded",
    "Inverted",
    "Kind",
    "LowPass",
    "Lyra",
    "Needs",
    "Noisy",
    "Opus",
    "Original",
    "RoundTrip",
    "Rounded",
    "Selection",
    "Shift",
    "Silence",
    "get_anchors",
]

AVAILABLE = "available"
"""Name that stands for all of the group "anchors" that can run here."""


@dataclass(frozen=True)
class Needs:
    """What some anchors need beside their setting.

    Args:
        lyra: folder with the files of Lyra V2; None: what AUDIOTOKENS_LYRA names.
        files: all recordings that will be coded, for "another-utterance".
    """

    lyra: str | Path | None = None
    files: tuple[str | Path, ...] = ()


@dataclass(frozen=True)
class Selection:
    """Anchors that were asked for.

    Args:
        anchors: those that can run, in the order asked for.
        left_out: of "available", the name of each anchor that cannot run here, with the reason.
    """

    anchors: tuple[Anchor, ...]
    left_out: dict[str, str] = field(default_factory=dict)


Factory = Callable[[Needs], Anchor]

ANCHORS: dict[str, Factory] = {
    "lowpass-4k": lambda _: LowPass(),
    "opus-6k": lambda _: Opus(6000),
    "opus-8k": lambda _: Opus(8000),
    "opus-9k": lambda _: Opus(9000),
    "opus-12k": lambda _: Opus(12000),
    "opus-16k": lambda _: Opus(16000),
    "amr-4.75k": lambda _: AmrNarrowBand(4750),
    "amr-7.95k": lambda _: AmrNarrowBand(7950),
    "amr-12.2k": lambda _: AmrNarrowBand(12200),
    "codec2-700c": lambda _: Codec2("700C"),
    "codec2-1200": lambda _: Codec2("1200"),
    "codec2-1300": lambda _: Codec2("1300"),
    "codec2-1600": lambda _: Codec2("1600"),
    "codec2-2400": lambda _: Codec2("2400"),
    "codec2-3200": lambda _: Codec2("3200"),
    "lyra-3.2k": lambda needs: Lyra(3200, needs.lyra),
    "lyra-6k": lambda needs: Lyra(6000, needs.lyra),
    "lyra-9.2k": lambda needs: Lyra(9200, needs.lyra),
    "original": lambda _: Original(),
    "int16": lambda _: Rounded(),
    "resampled": lambda _: RoundTrip(),
    "shift-1": lambda _: Shift(1),
    "shift-8": lambda _: Shift(8),
    "inverted": lambda _: Inverted(),
    "noise-20db": lambda _: Noisy(),
    "silence": lambda _: Silence(),
    "another-utterance": lambda needs: AnotherUtterance(needs.files),
}
"""What makes each anchor, by name; add your own here."""

_CALIBRATION = tuple(ANCHORS)[tuple(ANCHORS).index("original") :]

GROUPS: dict[str, tuple[str, ...]] = {
    "anchors": tuple(name for name in ANCHORS if name not in _CALIBRATION),
    "calibration": _CALIBRATION,
    "opus": tuple(name for name in ANCHORS if name.startswith("opus-")),
    "amr": tuple(name for name in ANCHORS if name.startswith("amr-")),
    "codec2": tuple(name for name in ANCHORS if name.startswith("codec2-")),
    "lyra": tuple(name for name in ANCHORS if name.startswith("lyra-")),
}
"""Names that stand for several anchors. "available" stands for what of the group "anchors" can run here."""


def get_anchors(
    names: str | Sequence[str],
    *,
    lyra: str | Path | None = None,
    files: Sequence[str | Path] = (),
) -> Selection:
    """Return anchors by name or group, each once, in the order asked for.

    An anchor that is asked for by its name or group and cannot run is an error. With "available" it is left
    out, and the selection says why.

    Args:
        names: of `ANCHORS` and `GROUPS`, or "available".
        lyra: folder with the three files of Lyra V2; default: what AUDIOTOKENS_LYRA names.
        files: all recordings that will be coded; only "another-utterance" needs them.

    Raises:
        AudioTokensError: a name is unknown, or an anchor cannot run.
        MissingExtraError: the extra "anchors" is not installed.

    Example:
        >>> [anchor.title for anchor in get_anchors(["lowpass-4k", "shift-1"]).anchors]
        ['Original below 4 kHz', 'Late by 1 sample']
    """
    needs = Needs(lyra, tuple(files))
    found: dict[str, Anchor] = {}
    left_out: dict[str, str] = {}
    for name in [names] if isinstance(names, str) else names:
        for member in GROUPS["anchors"] if name == AVAILABLE else GROUPS.get(name, (name,)):
            if member in found:
                continue
            try:
                found[member] = _factory(member)(needs)
            except AudioTokensError as error:
                if name != AVAILABLE:
                    raise
                left_out[member] = str(error)
    return Selection(tuple(found.values()), left_out)


def _factory(name: str) -> Factory:
    if name not in ANCHORS:
        close = get_close_matches(name, [*ANCHORS, *GROUPS, AVAILABLE], 1)
        hint = f' (did you mean "{close[0]}"?)' if close else ""
        raise AudioTokensError(
            f'there is no anchor "{name}"{hint}; groups: {AVAILABLE}, {", ".join(GROUPS)}; '
            f"names: {', '.join(ANCHORS)}"
        )
    return ANCHORS[name]

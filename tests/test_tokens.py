"""Tokens are correct from construction on, and what is cut or joined is what the documentation says."""

from __future__ import annotations

import copy
import pickle
import sys
from collections.abc import Callable
from dataclasses import FrozenInstanceError, replace
from fractions import Fraction
from typing import Any, cast

import numpy as np
import pytest

from audiotokens.errors import MissingExtraError, TokensError
from audiotokens.tokens import CodeStream, Conditioning, Segment, Source, Tokens

FIFTY = Fraction(50)
CODES = np.arange(20).reshape(2, 10)


def stream(**changes: Any) -> CodeStream:
    facts: dict[str, Any] = {"codes": CODES, "codebook_sizes": (32, 32), "frame_rate": FIFTY}
    return CodeStream(**(facts | changes))


def tokens(**changes: Any) -> Tokens:
    facts: dict[str, Any] = {"streams": {"codes": stream()}, "num_samples": 3200, "sample_rate": 16000}
    facts |= {"channels": 1, "tokenizer": "a", "fingerprint": "f"}
    return Tokens(**(facts | changes))


def conditioning(values: Any, frame_rate: Fraction = Fraction(0)) -> Conditioning:
    return Conditioning(values, frame_rate)


def test_codes_become_read_only_int64() -> None:
    given = np.asfortranarray(CODES.astype(np.int16))
    made = stream(codes=given)
    given[0, 0] = 31
    assert made.codes.dtype == np.int64
    assert made.codes.flags.c_contiguous
    assert not made.codes.flags.writeable
    assert made.codes[0, 0] == 0
    assert (made.num_codebooks, made.num_frames, made.base_frames) == (2, 10, 10)


def test_no_frames_and_no_samples_are_legal() -> None:
    part = tokens(streams={"codes": stream(codes=np.zeros((2, 0)))}, num_samples=0)
    assert part.codes.shape == (2, 0)
    assert (part.bitrate, part.duration, part.bits) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"codes": np.arange(4)}, r"shape \[4\], expected \[K, T\]"),
        ({"codes": CODES * 0.5}, "type float64, expected integers"),
        ({"codes": CODES > 3}, "type bool, expected integers"),
        ({"codes": CODES + 13}, "book 1 holds the code 32, expected 0 to 31"),
        ({"codes": CODES - 1}, "book 0 holds the code -1, expected 0 to 31"),
        ({"codes": np.full((2, 3), 2**63, np.uint64)}, "more than 2"),
        ({"codes": [[1], [1, 2]]}, "expected an array"),
        ({"codebook_sizes": (32,)}, "2 rows .* names 1 books"),
        ({"codebook_sizes": ()}, "names 0 books"),
        ({"codebook_sizes": 32}, "expected a tuple of integers"),
        ({"codebook_sizes": (32, 0)}, r"codebook_sizes\[1\] is 0"),
        ({"codebook_sizes": (32, 2.5)}, r"codebook_sizes\[1\] is float 2.5, expected an integer"),
        ({"frame_rate": 12.5}, r"frame_rate is float 12.5, expected a Fraction such as Fraction\(25, 2\)"),
        ({"frame_rate": Fraction(-1)}, "frame_rate is Fraction"),
        ({"durations": [1] * 9}, "9 durations for 10 frames"),
        ({"durations": [1] * 9 + [0]}, "smallest duration is 0"),
        ({"durations": [2**61] * 10}, "which no recording has"),
        ({"durations": [1] * 10, "frame_rate": Fraction(0)}, "global codes have no durations"),
        ({"segments": (Segment(0, 9, 9),)}, "segments hold 9 frames and the codes 10"),
        ({"segments": (Segment(1, 9, 10),)}, "first segment starts at sample 1"),
        ({"segments": (Segment(0, 9, 5), Segment(10, 9, 5))}, "without a gap"),
        ({"segments": (Segment(0, 9, 5), Segment(0, 9, 5))}, "without a gap"),
        ({"segments": ((0, 9, 10, 1.0),)}, "not a Segment"),
        ({"segments": (Segment(0, 9, 10),), "durations": [1] * 10}, "without durations"),
    ],
)
def test_a_stream_refuses_contradictions(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(TokensError, match=message) as caught:
        stream(**changes)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: conditioning(np.zeros(3)), r"shape \[3\], expected numbers \[D, T\]"),
        (lambda: conditioning(np.array([["a"]])), "expected numbers"),
        (lambda: conditioning(np.array([[np.nan]])), "not all finite"),
        (lambda: conditioning(np.array([[1e300]])), "not all finite float32"),
        (lambda: Segment(0, 0, 1), "num_samples is 0"),
        (lambda: Segment(-1, 1, 1), "start_sample is -1"),
        (lambda: Segment(0, 1, 1, float("inf")), "scale is inf"),
        (lambda: Segment(0, 1, 1, cast(Any, "1")), "scale is str '1', expected a number"),
        (lambda: Source(0, 1, 1), "source: sample_rate is 0"),
        (lambda: Source(1, 1, 1, "two\nlines"), "expected printable text"),
        (lambda: tokens(num_samples=-1), "num_samples is -1"),
        (lambda: tokens(channels=True), "channels is bool True"),
        (lambda: tokens(tokenizer=""), "tokenizer is empty"),
        (lambda: tokens(fingerprint="f" * 201), "at most 200"),
        (lambda: tokens(source="mic"), "expected Source or None"),
        (lambda: tokens(streams={}), "at least one stream"),
        (lambda: tokens(streams=[stream()]), "expected a mapping"),
        (lambda: tokens(streams={"codes": CODES}), r'streams\["codes"\] is of type ndarray'),
        (lambda: tokens(streams={"": stream()}), "a name in streams is empty"),
        (
            lambda: tokens(streams={"codes": stream(segments=(Segment(0, 4000, 5), Segment(3200, 9, 5)))}),
            "starts at sample 3200 of 3200",
        ),
    ],
)
def test_parts_and_tokens_refuse_contradictions(make: Callable[[], object], message: str) -> None:
    with pytest.raises(TokensError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_tokens_are_frozen_and_keep_their_own_mapping() -> None:
    streams = {"codes": stream()}
    made = tokens(streams=streams)
    streams.clear()
    assert list(made.streams) == ["codes"]
    with pytest.raises(FrozenInstanceError):
        made.num_samples = 1  # type: ignore[misc]
    assert copy.deepcopy(made) == made
    assert pickle.loads(pickle.dumps(made)) == made


def test_equality_is_of_content() -> None:
    pitch = {"pitch": conditioning(np.zeros((1, 20)), Fraction(100))}
    base = tokens(source=Source(8000, 1600, 1), conditioning=pitch)
    assert base == tokens(source=Source(8000, 1600, 1), conditioning=pitch)
    different = [
        replace(base, num_samples=3201),
        replace(base, fingerprint="g"),
        replace(base, source=None),
        replace(base, streams={"other": stream()}),
        replace(base, streams={"codes": stream(codes=CODES[:, ::-1])}),
        replace(base, streams={"codes": stream(codebook_sizes=(32, 64))}),
        replace(base, streams={"codes": stream(durations=[1] * 10)}),
        replace(base, streams={"codes": stream(segments=(Segment(0, 3200, 10),))}),
        replace(base, conditioning={"pitch": conditioning(-np.zeros((1, 20)), Fraction(100))}),
    ]
    for other in different:
        assert base != other
    assert base != "tokens"
    with pytest.raises(TypeError, match="unhashable"):
        hash(base)


def test_the_order_of_streams_is_content() -> None:
    pair = {"a": stream(), "b": stream()}
    assert tokens(streams=pair) != tokens(streams=dict(reversed(pair.items())))


def test_codes_stack_streams_of_one_time() -> None:
    both = tokens(streams={"a": stream(), "b": stream(codes=CODES + 1), "g": stream(frame_rate=Fraction(0))})
    assert np.array_equal(both.codes, np.concatenate([CODES, CODES + 1]))
    assert not both.codes.flags.writeable
    assert both.num_codebooks == 4


@pytest.mark.parametrize(
    "other",
    [stream(frame_rate=Fraction(25)), stream(codes=CODES[:, :9]), stream(durations=[1] * 10)],
    ids=["rate", "length", "durations"],
)
def test_codes_of_different_times_are_an_error_that_names_them(other: CodeStream) -> None:
    with pytest.raises(TokensError, match=r'"a" 10 frames at 50 Hz, "b" \d+ frames at \d+ Hz'):
        _ = tokens(streams={"a": stream(), "b": other}).codes


def test_codes_of_global_streams_only_are_an_error() -> None:
    with pytest.raises(TokensError, match="no stream varies with time"):
        _ = tokens(streams={"g": stream(frame_rate=Fraction(0))}).codes


def test_bits() -> None:
    windows = (Segment(0, 3200, 10, 0.5),)
    sizes = {"codebook_sizes": (32, 1000)}
    assert stream(**sizes).code_bits == pytest.approx(10 * (5 + np.log2(1000)))
    assert stream(durations=[1] * 9 + [9]).side_bits == 40
    assert stream(segments=windows).side_bits == 32
    made = tokens(conditioning={"timbre": conditioning(np.zeros((8, 1)))})
    assert (made.code_bits, made.bits, made.duration) == (100, 100 + 256, 0.2)
    assert made.bitrate == pytest.approx(356 / 0.2)


def test_take_counts_books_over_the_time_varying_streams() -> None:
    voice = stream(frame_rate=Fraction(0))
    made = tokens(streams={"a": stream(), "voice": voice, "b": stream(codes=CODES + 1)})
    three = made.take(3)
    assert list(three.streams) == ["a", "voice", "b"]
    assert np.array_equal(three.codes, made.codes[:3])
    assert list(made.take(2).streams) == ["a", "voice"]
    assert made.take(1).streams["voice"] == voice
    assert made.take(4) == made
    for wrong in (0, 5, -1):
        with pytest.raises(TokensError, match=r"num_codebooks"):
            made.take(wrong)


def test_clip_snaps_outward_and_says_where() -> None:
    made = tokens(source=Source(8000, 1600, 1))
    assert made.clip_bounds(0.05, 0.1) == (640, 1600)
    cut = made.clip(0.05, 0.1)
    assert cut.num_samples == 960
    assert np.array_equal(cut.codes, CODES[:, 2:5])
    assert cut.source == Source(8000, 480, 1)
    assert made.clip(Fraction(1, 20), Fraction(1, 10)) == cut
    # 0.1 + 0.2 is not 0.3 in floating point, but it is the same sample.
    longer = tokens(streams={"codes": stream(codes=np.zeros((2, 50), int))}, num_samples=16000)
    assert longer.clip_bounds(0.1 + 0.2, 0.6) == (4800, 9600)
    assert made.clip(0.05) == made.clip(0.05, 0.2)
    assert made.clip(0, 0.2) == made


def test_clip_keeps_what_lies_at_the_end() -> None:
    short = tokens(num_samples=3237)
    assert short.clip_bounds(0.19) == (2880, 3237)
    assert short.clip(0.19).codes.shape == (2, 1)
    # No frame begins in the last 37 samples: their clip has none.
    assert short.clip(0.2).codes.shape == (2, 0)
    assert Tokens.concatenate([short.clip(0, 0.2), short.clip(0.2)]) == short
    assert short.clip(0, 0.2).num_samples == 3200


@pytest.mark.parametrize("bounds", [(-0.1, 0.1), (0.1, 0.1), (0.15, 0.1), (0, 0.3), (0.2, None)])
def test_clip_outside_the_recording(bounds: tuple[float, float | None]) -> None:
    with pytest.raises(TokensError, match=r"cannot clip .* expected 0 <= start < end <= 0\.2 s"):
        tokens().clip(*bounds)


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), "1", True])
def test_clip_at_no_number(wrong: Any) -> None:
    with pytest.raises(TokensError, match="cannot clip at"):
        tokens().clip(0, wrong)


def test_clip_snaps_to_the_coarsest_common_frame() -> None:
    slow = stream(codes=CODES[:, :2], frame_rate=Fraction(10))
    made = tokens(streams={"fast": stream(), "slow": slow})
    assert made.clip_bounds(0.11, 0.12) == (1600, 3200)
    assert made.clip(0.11, 0.12).streams["fast"].num_frames == 5


def test_clip_shortens_durations() -> None:
    merged = stream(durations=[3] * 10)
    made = tokens(streams={"units": merged}, num_samples=9600)
    cut = made.clip(Fraction(2 * 320, 16000), Fraction(7 * 320, 16000)).streams["units"]
    assert np.array_equal(cut.codes, CODES[:, :3])
    assert cut.durations is not None
    assert cut.durations.tolist() == [1, 3, 1]


def test_clip_cuts_windows_where_they_start() -> None:
    windows = (Segment(0, 1000, 4, 0.5), Segment(900, 1000, 4, 0.25), Segment(1800, 200, 2))
    made = tokens(streams={"codes": stream(segments=windows)}, num_samples=2000)
    assert made.clip_bounds(Fraction(950, 16000), Fraction(1000, 16000)) == (900, 1800)
    cut = made.clip(Fraction(950, 16000), Fraction(1000, 16000))
    assert cut.streams["codes"].segments == (Segment(0, 1000, 4, 0.25),)
    assert np.array_equal(cut.codes, CODES[:, 4:8])
    assert Tokens.concatenate([made.clip(0, Fraction(900, 16000)), made.clip(Fraction(900, 16000))]) == made


def test_concatenate_parts() -> None:
    made = tokens(num_samples=3237, source=Source(8000, 1619, 1))
    empty = replace(
        made.clip(0, 0.1), streams={"codes": stream(codes=CODES[:, :0])}, num_samples=0, source=None
    )
    parts = [empty, made.clip(0, 0.06), empty, made.clip(0.06, 0.1), made.clip(0.1), empty]
    assert Tokens.concatenate(iter(parts)) == made
    assert Tokens.concatenate([empty, empty]) == empty
    assert Tokens.concatenate([made]) == made
    unknown = Tokens.concatenate([made.clip(0, 0.1), replace(made.clip(0.1), source=None)])
    assert unknown == replace(made, source=None)


def test_concatenate_of_different_sources_forgets_them() -> None:
    one, other = (
        tokens(source=Source(8000, 1600, 1)),
        tokens(source=Source(44100, 8820, 2, "soxr-vhq", "2 to 1")),
    )
    assert Tokens.concatenate([one, other]).source is None


GLOBAL = stream(codes=[[1], [2]], frame_rate=Fraction(0))
TIMBRE = {"timbre": conditioning(np.ones((4, 1)))}


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (tokens(fingerprint="other"), r'item 1 are of "a" \(other\), expected "a" \(f\): encode all'),
        (tokens(sample_rate=8000), "item 1 are at 8000 Hz"),
        (tokens(streams={"other": stream()}), "other streams or conditioning than item 0"),
        (tokens(conditioning=TIMBRE), "other streams or conditioning than item 0"),
        (tokens().take(1), 'stream "codes" has other books or rate than in item 0'),
        (tokens(streams={"codes": stream(durations=[1] * 10)}), "other books or rate"),
    ],
)
def test_concatenate_refuses_what_does_not_fit(other: Tokens, message: str) -> None:
    with pytest.raises(TokensError, match=message):
        Tokens.concatenate([tokens(), other])


def test_concatenate_refuses_another_voice() -> None:
    one = tokens(streams={"codes": stream(), "voice": GLOBAL}, conditioning=TIMBRE)
    voice = {"codes": stream(), "voice": stream(codes=[[1], [3]], frame_rate=Fraction(0))}
    timbre = {"timbre": conditioning(np.zeros((4, 1)))}
    for other in (replace(one, streams=voice), replace(one, conditioning=timbre)):
        with pytest.raises(TokensError, match=r"differs from item 0: use with_globals"):
            Tokens.concatenate([one, other])
        assert Tokens.concatenate([one, other.with_globals(one)]).num_samples == 6400
    taller = replace(one, conditioning={"timbre": conditioning(np.zeros((5, 1)))})
    with pytest.raises(TokensError, match="another rate or height"):
        Tokens.concatenate([one, taller])


def test_concatenate_says_how_to_make_an_item_whole() -> None:
    short = tokens(num_samples=3137)
    with pytest.raises(TokensError, match=r"item 0 has 3137 samples.*item.clip\(0, 0.18\)"):
        Tokens.concatenate([short, tokens()])
    assert Tokens.concatenate([short.clip(0, 0.18), tokens()]).codes.shape == (2, 19)
    lacking = stream(segments=(Segment(0, 3000, 10),))
    with pytest.raises(TokensError, match="windows end at sample 3000 of 3200"):
        Tokens.concatenate([tokens(streams={"codes": lacking})] * 2)
    with pytest.raises(TokensError, match="nothing to concatenate"):
        Tokens.concatenate([])


def test_with_globals() -> None:
    mine = tokens(streams={"codes": stream(), "voice": GLOBAL}, conditioning=TIMBRE)
    voice = stream(codes=[[9], [9]], frame_rate=Fraction(0))
    timbre = {"timbre": conditioning(np.zeros((4, 1)))}
    theirs = tokens(streams={"codes": stream(codes=CODES + 1), "voice": voice}, conditioning=timbre)
    swapped = mine.with_globals(theirs)
    assert swapped.streams == {"codes": stream(), "voice": voice}
    assert swapped.conditioning == timbre
    with pytest.raises(TokensError, match="no global codes or conditioning"):
        tokens().with_globals(tokens())
    with pytest.raises(TokensError, match="found none, expected stream"):
        mine.with_globals(tokens())
    with pytest.raises(TokensError, match="encode all with one tokenizer"):
        mine.with_globals(replace(theirs, fingerprint="other"))
    with pytest.raises(TokensError, match='global stream "voice" has other books'):
        mine.with_globals(replace(theirs, streams={"codes": stream(), "voice": voice.take(1)}))


def test_torch_and_back() -> None:
    torch = pytest.importorskip("torch")
    made = tokens()
    tensors = made.torch()
    assert tensors["codes"].dtype == torch.int64
    assert replace(made, streams={"codes": stream(codes=tensors["codes"])}) == made
    tensors["codes"].zero_()
    assert made.codes.max() == 19


def test_torch_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtraError, match=r"audiotokens\[torch\]"):
        tokens().torch()

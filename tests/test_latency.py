"""Declared latency against perturbation: what agrees, and that a wrong declaration is found."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
from tiny_codecs import TINY, tiny

import audiotokens
from audiotokens.errors import NotOfferedError
from audiotokens.latency import Delay, measure_latency, measure_steps

ONE_WAY = {"speechtokenizer tiny": "encoder", "wavtokenizer tiny": "decoder"}
"""Tiny codecs of which one direction reads whole recordings."""

FIRST_FRAMES_ONLY = {"encodec tiny"}
"""Those whose encoder looks ahead in the first frames only, because of reflected padding."""


CODECS = [*(TINY.keys() - {"encodec tiny-stereo", "vocos tiny", "vocos tiny-codec", "vocos tiny-decoder"})]
"""Tiny codecs with sessions in at least one direction; that of Vocos has EnCodec's encoder."""


@pytest.mark.parametrize("name", sorted(CODECS))
def test_what_is_declared_is_what_perturbation_finds(name: str) -> None:
    codec = tiny(name)
    found = measure_latency(codec)
    assert found.agrees, found
    for delay in (found.encoder, found.decoder):
        assert delay is None or delay.changed == delay.declared
    assert {*found.not_offered} == ({ONE_WAY[name]} if name in ONE_WAY else set())
    if found.encoder and name != "speechtokenizer tiny":
        assert found.encoder.declared == codec.spec.lookahead
        assert found.encoder.later == (0 if name in FIRST_FRAMES_ONLY else codec.spec.lookahead)
    if found.round_trip and name not in FIRST_FRAMES_ONLY:
        assert found.round_trip.changed == found.round_trip.declared
    field = found.receptive_field
    assert field is None or (field.declared is None) == (field.changed is None)
    if field and field.declared and field.changed:
        assert field.changed > 0.9 * field.declared


@pytest.mark.parametrize(
    ("fact", "part"),
    [
        ({"lookahead": 161}, "encoder"),
        ({"lookahead": 159}, "encoder"),
        ({"decoder_lookahead": 80}, "decoder"),
        ({"decoder_lookahead": 240}, "decoder"),
        ({"receptive_field": 319}, "receptive_field"),
    ],
)
def test_a_wrong_declaration_is_found(fact: dict[str, Any], part: str) -> None:
    codec = copy.deepcopy(tiny("gain-shape tiny"))
    codec._spec = replace(codec.spec, **fact)
    found = measure_latency(codec)
    assert not found.agrees
    assert not getattr(found, part).agrees


def test_sessions_that_wait_too_long_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    codec = copy.deepcopy(tiny("soundstream tiny-lyra"))
    start = codec.encoder

    class Late:
        def push(self, chunk: Any) -> Any:
            return start().push(chunk[:, :-1]) if chunk.shape[1] > 1 else None

    monkeypatch.setattr(codec, "encoder", Late)
    found = measure_latency(codec)
    assert found.encoder is not None
    assert (found.encoder.changed, found.encoder.session) == (0, 1)
    assert not found.agrees


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["torch", "onnx"])
def test_the_shipped_tokenizer_for_live_use_is_as_late_as_it_says(engine: Any) -> None:
    if engine == "onnx":
        pytest.importorskip("onnxruntime")
    found = measure_latency(audiotokens.load("speech-16k-stream", engine=engine))
    assert found.agrees
    assert found.encoder == Delay(320, 320, 320, 320)
    assert found.decoder == Delay(0, 0, 0, 0)
    assert found.round_trip == Delay(320, 320, 320, 320)


def test_without_sessions_there_is_no_latency() -> None:
    codec = tiny("encodec tiny-stereo")
    for measure in (measure_latency, measure_steps):
        with pytest.raises(NotOfferedError, match="whole recordings, because of its overlapping windows"):
            measure(codec)


def test_steps_are_timed_in_chunks_of_the_wanted_size() -> None:
    codec = tiny("soundstream tiny-lyra")
    times = measure_steps(codec, seconds=0.1)
    hop = int(codec.spec.hop)
    assert times.chunk == hop
    for steps in (times.encoder, times.decoder):
        assert steps is not None
        assert steps.count == 32
        median, high, highest = steps.milliseconds
        assert 0 < median <= high <= highest
        assert steps.real_time_factor > 0
    longer = measure_steps(codec, seconds=0.1, chunk=3 * hop)
    assert longer.encoder is not None and times.encoder is not None
    assert longer.encoder.count < times.encoder.count
    one_way = measure_steps(tiny("wavtokenizer tiny"), seconds=0.1)
    assert one_way.decoder is None and one_way.encoder is not None

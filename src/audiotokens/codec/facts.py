"""Facts about a codec that follow from its modules, and those that are only told."""

from __future__ import annotations

import math
from dataclasses import replace

from audiotokens.nn.block import Sequential
from audiotokens.spec import Spec

_FIRST_HOPS = 65


def with_texts(computed: Spec, given: Spec | None) -> Spec:
    """Keep computed rates and books; take names, licences and texts from `given`."""
    if given is None:
        return computed
    texts = ("name", "quirks", "code_license", "weights_license", "training_data", "source", "taxonomy")
    # Counting takes a pass of the nets, which loading does not wait for.
    counts = ("encoder_macs", "decoder_macs")
    return replace(computed, **{name: getattr(given, name) for name in (*texts, *counts)})


def with_latency(spec: Spec, encoder: Sequential, decoder: Sequential) -> Spec:
    """Fill in what follows from the modules: streamability, look-ahead and receptive field."""
    reach = encoder.reach
    field = reach.past + reach.stride + reach.future
    hop = int(spec.hop)
    frames = int(hop / reach.stride)
    samples = hop * spec.output_sample_rate // spec.sample_rate
    bounded = not (encoder.unbounded or decoder.unbounded)
    return replace(
        spec,
        streamable=bounded,
        lookahead=0 if encoder.unbounded else _lookahead(encoder, frames, hop),
        receptive_field=None if encoder.unbounded or math.isinf(field) else int(field),
        decoder_lookahead=0 if decoder.unbounded else _lookahead(decoder, samples, frames) * hop // frames,
    )


def _lookahead(net: Sequential, frames: int, hop: int) -> int:
    """Input frames that a net waits for beyond the end of a hop of them, which becomes `frames` frames.

    The first frames may wait longer than the others.
    """
    return max(0, *(int(net.samples_needed(n * frames)) - n * hop for n in range(1, _FIRST_HOPS)))

"""Quantizers as graphs: latents to codes and back.

The search says argmin_n |e_n|^2 - 2 x e_n in float64, the lowest index of equally near ones. Every kind has
a rule for both directions; the rules of composed ones ask those of what they are made of.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from audiotokens.architectures.vocos import CodeSums
from audiotokens.codec import Codec
from audiotokens.errors import NotOfferedError
from audiotokens.export.arrangement import arange, cat, cut, expand, reshape, unsqueezed
from audiotokens.export.dims import Size, variable
from audiotokens.export.emitters import elementwise, linear, where
from audiotokens.export.graph import Graph, Port
from audiotokens.export.traced import Traced, Tracing, constant, graph, traced, untraced
from audiotokens.export.weights import StoredWeights
from audiotokens.nn.equal import first_equal
from audiotokens.quantizers import Quantizer
from audiotokens.quantizers.fsq import FiniteScalarQuantizer
from audiotokens.quantizers.grouped import GroupedQuantizer
from audiotokens.quantizers.multiscale import MultiscaleQuantizer
from audiotokens.quantizers.projected import ProjectedQuantizer
from audiotokens.quantizers.residual import ResidualQuantizer
from audiotokens.quantizers.scalar import ScalarQuantizer
from audiotokens.quantizers.split import SplitQuantizer
from audiotokens.quantizers.vector import VectorQuantizer
from audiotokens.spec import StreamSpec

Codes = list[Traced]
"""int64 `[1, K_i, T_i]`, one for each rate."""
_ENCODERS: dict[type, Callable[[Any, Traced], Codes]] = {}
_DECODERS: dict[type, Callable[[Any, Codes, Traced], Traced]] = {}
_SMALL = 1e-12


def encoder_graph(codec: Codec, weights: StoredWeights) -> Graph:
    """Latents to the codes of all streams.

    Raises:
        NotOfferedError: a quantizer has no rule.
    """
    made, frames = _begun(codec, weights)
    made.inputs.append(Port("latents", "float32", (1, codec.quantizer.dim, "t")))
    made.variables["n"] = ("latents", 2, codec.frames_per_hop)
    with torch.no_grad(), Tracing(made, {}):
        codes = _encode(codec.quantizer, Traced("latents", (1, codec.quantizer.dim, frames)))
        if not codec.quantizer.several_rates:
            ends, whole = [0], codes[0]
            for stream in codec.spec.streams:
                ends.append(ends[-1] + stream.num_codebooks)
            codes = [cut(whole, 1, start, end) for start, end in zip(ends, ends[1:])]
        for stream, part in zip(codec.spec.streams, codes, strict=True):
            # Axes of one name have to be equally long.
            axis = f"u{_per_hop(codec, stream)}"
            made.output(Port(stream.name, "int64", (1, stream.num_codebooks, axis)), part.plain())
    return made


def decoder_graph(codec: Codec, weights: StoredWeights) -> Graph:
    """Codes of all streams and the number of books to latents.

    Raises:
        NotOfferedError: a quantizer has no rule.
    """
    made, frames = _begun(codec, weights)
    codes = []
    for stream in codec.spec.streams:
        ratio = _per_hop(codec, stream)
        made.inputs.append(Port(stream.name, "int64", (1, stream.num_codebooks, f"t{ratio}")))
        hops = frames // codec.frames_per_hop
        codes.append(Traced(stream.name, (1, stream.num_codebooks, hops * ratio), torch.int64))
        made.variables.setdefault("n", (stream.name, 2, ratio))
    made.inputs.append(Port("num_codebooks", "int64", (1,)))
    with torch.no_grad(), Tracing(made, {}):
        codes = codes if codec.quantizer.several_rates else [cat(codes, 1)]
        y = _decode(codec.quantizer, codes, Traced("num_codebooks", (1,), torch.int64))
        made.output(Port("latents", "float32", (1, codec.quantizer.dim, "u")), y.plain())
    return made


def _per_hop(codec: Codec, stream: StreamSpec) -> int:
    """Frames of a stream per frame of the slowest one."""
    return int(stream.frame_rate / codec.spec.frame_rate)


def _begun(codec: Codec, weights: StoredWeights) -> tuple[Graph, Any]:
    return Graph(weights), variable("n", least=1) * codec.frames_per_hop


def _encode(quantizer: Quantizer, latents: Traced) -> Codes:
    codes: Codes = _rule(_ENCODERS, quantizer)(quantizer, latents)
    return codes


def _decode(quantizer: Quantizer, codes: Codes, number: Traced) -> Traced:
    """Latents in float32 of the first `number` `[1]` books; where that is none, of anything."""
    latents: Traced = _rule(_DECODERS, quantizer)(quantizer, codes, number)
    return latents


def _rule(rules: dict[type, Callable[..., Any]], quantizer: Quantizer) -> Callable[..., Any]:
    if type(quantizer) not in rules:
        raise NotOfferedError(
            f"a graph cannot be written: there is no rule for a {type(quantizer).__name__}, only for "
            f"{', '.join(sorted(kind.__name__ for kind in rules))}"
        )
    return rules[type(quantizer)]


def _encoder(kind: type) -> Callable[[Any], Any]:
    def register(function: Any) -> Any:
        _ENCODERS[kind] = function
        return function

    return register


def _decoder(kind: type) -> Callable[[Any], Any]:
    def register(function: Any) -> Any:
        _DECODERS[kind] = function
        return function

    return register


def _wide_linear(layer: Any, rows: Traced) -> Traced:
    """A linear map in float64."""
    bias = None if layer.bias is None else traced(layer.bias).double()
    return linear(rows.double(), traced(layer.weight).double(), bias)


def _unit(vectors: Traced) -> Traced:
    """Vectors of length 1; none becomes longer than it can be told from zero."""
    length = vectors.square().sum(-1, keepdim=True).sqrt()
    return vectors / length.clamp(min=_SMALL)


@_encoder(VectorQuantizer)
def _encode_vector(quantizer: VectorQuantizer, latents: Traced) -> Codes:
    rows = latents.double().mT
    if isinstance(quantizer.project_in, torch.nn.Linear):
        rows = _wide_linear(quantizer.project_in, rows)
    entries = traced(quantizer.book).double()
    if quantizer.metric != "euclidean":
        # Of what has no direction the first is taken; entries without one are at a right angle to all.
        rows, entries = _unit(rows), _unit(entries)
    squares = entries.square().sum(1)
    if quantizer.metric != "euclidean":
        squares = where(squares > 0.5, squares, 1.0)
    scores = squares - rows @ (entries * 2.0).T
    index = _lowest(quantizer, _argmin(scores))
    if quantizer.metric != "euclidean":
        index = where(rows.abs().sum(-1) > 0.0, index, 0)
    return [unsqueezed(index, [1])]


def _argmin(scores: Traced) -> Traced:
    name = graph().apply("ArgMin", scores.plain(), attributes={"axis": -1, "keepdims": 0})
    return Traced(name, scores.shape[:-1], torch.int64)


def _lowest(quantizer: VectorQuantizer, index: Traced) -> Traced:
    """The first entry that is equal to each one found: rounding may have taken a later one."""
    with untraced():
        first = first_equal(quantizer._distinct(quantizer.entries(torch.float64)))
        if torch.equal(first, torch.arange(len(first))):
            return index
    found: Traced = constant(first)[index]
    return found


@_decoder(VectorQuantizer)
def _decode_vector(quantizer: VectorQuantizer, codes: Codes, number: Traced) -> Traced:
    entries = traced(quantizer.book)
    if quantizer.metric == "sphere":
        entries = _unit(entries)
    rows = entries[codes[0][:, 0]]
    if isinstance(quantizer.project_out, torch.nn.Linear):
        rows = _wide_linear(quantizer.project_out, rows).float()
    latents: Traced = rows.mT
    return latents


@_encoder(ResidualQuantizer)
def _encode_residual(quantizer: ResidualQuantizer, latents: Traced) -> Codes:
    rest, codes = latents.double(), []
    for index, scale in enumerate(quantizer._scales):
        level = quantizer.level(index)
        found = _encode(level, rest if scale == 1 else rest / scale)
        codes.append(found[0])
        if index + 1 < len(quantizer._scales):
            decoded = _decode(level, found, _all(level)).double()
            rest = rest - (decoded if scale == 1 else decoded * scale)
    return [cat(codes, 1)]


def _all(quantizer: Quantizer) -> Traced:
    return constant(torch.tensor([len(quantizer.codebook_sizes)]))


def _from_book(number: Traced, book: int) -> Traced:
    """1 where more than so many books are used, else 0; float32 `[1]`."""
    found: Traced = (number > book).to(torch.float32)
    return found


@_decoder(ResidualQuantizer)
def _decode_residual(quantizer: ResidualQuantizer, codes: Codes, number: Traced) -> Traced:
    total: Any = None
    starts = (0, *quantizer._ends[:-1])
    for index, (start, end) in enumerate(zip(starts, quantizer._ends)):
        level, scale = quantizer.level(index), quantizer._scales[index]
        part = _decode(level, [cut(codes[0], 1, start, end)], _all(level))
        part = part if scale == 1 else part * scale
        total = part if total is None else total + part * _from_book(number, start)
    if quantizer.offsets is not None:
        zero = torch.zeros(1, quantizer.dim)
        levels = [(number > start).to(torch.int64) for start in starts]
        used = levels[0]
        for level_used in levels[1:]:
            used = used + level_used
        total = total + cat([traced(quantizer.offsets), zero], 0)[used - 1][..., None]
    found: Traced = total
    return found


@_encoder(ProjectedQuantizer)
def _encode_projected(quantizer: ProjectedQuantizer, latents: Traced) -> Codes:
    return _encode(quantizer.inner, _wide_linear(quantizer.project_in, latents.mT).float().mT)


@_decoder(ProjectedQuantizer)
def _decode_projected(quantizer: ProjectedQuantizer, codes: Codes, number: Traced) -> Traced:
    inner = _decode(quantizer.inner, codes, number)
    return _wide_linear(quantizer.project_out, inner.mT).float().mT


@_encoder(SplitQuantizer)
def _encode_split(quantizer: SplitQuantizer, latents: Traced) -> Codes:
    return [cat([_encode(quantizer.semantic, latents)[0], _encode(quantizer.acoustic, latents)[0]], 1)]


@_decoder(SplitQuantizer)
def _decode_split(quantizer: SplitQuantizer, codes: Codes, number: Traced) -> Traced:
    first = len(quantizer.semantic.codebook_sizes)
    semantic = _decode(quantizer.semantic, [cut(codes[0], 1, 0, first)], _all(quantizer.semantic))
    acoustic = _decode(quantizer.acoustic, [cut(codes[0], 1, first, None)], number - first)
    found: Traced = semantic + acoustic * _from_book(number, first)
    return found


@_encoder(MultiscaleQuantizer)
def _encode_multiscale(quantizer: MultiscaleQuantizer, latents: Traced) -> Codes:
    rest, codes = latents.double(), []
    frames: Size = latents.shape[2]
    for level, stride in zip(quantizer._quantizers, quantizer.strides):
        windows = reshape(rest, 1, quantizer.dim, frames // stride, stride)
        found = _encode(level, (windows.sum(3) / float(stride)).float())
        codes.append(found[0])
        rest = rest - _repeated(_decode(level, found, _all(level)).double(), stride)
    return codes


@_decoder(MultiscaleQuantizer)
def _decode_multiscale(quantizer: MultiscaleQuantizer, codes: Codes, number: Traced) -> Traced:
    total: Any = None
    book = 0
    for level, part, stride in zip(quantizer._quantizers, codes, quantizer.strides):
        decoded = _repeated(_decode(level, [part], _all(level)), stride)
        total = decoded if total is None else total + decoded * _from_book(number, book)
        book += len(level.codebook_sizes)
    found: Traced = total
    return found


def _repeated(latents: Traced, stride: int) -> Traced:
    if stride == 1:
        return latents
    wide = expand(unsqueezed(latents, [3]), -1, -1, -1, stride)
    return reshape(wide, *latents.shape[:2], latents.shape[2] * stride)


@_encoder(GroupedQuantizer)
def _encode_grouped(quantizer: GroupedQuantizer, latents: Traced) -> Codes:
    codes = [_encode(inner, part)[0] for inner, part in _groups(quantizer, latents)]
    books = len(quantizer._first.codebook_sizes)
    if quantizer.config.nested_dropout:
        return [cat(codes, 1)]
    return [cat([cut(part, 1, book, book + 1) for book in range(books) for part in codes], 1)]


@_decoder(GroupedQuantizer)
def _decode_grouped(quantizer: GroupedQuantizer, codes: Codes, number: Traced) -> Traced:
    groups = quantizer.config.groups
    books = len(quantizer._first.codebook_sizes)
    parts = []
    for index in range(groups):
        inner = quantizer._inner[0 if quantizer.config.shared else index]
        if quantizer.config.nested_dropout:
            own = cut(codes[0], 1, index * books, (index + 1) * books)
            parts.append(_decode(inner, [own], _all(inner)) * _from_book(number, index * books))
        else:
            # Books of all groups lie side by side: the number of one group is a share of all.
            own = cut(codes[0], 1, index, None, groups)
            parts.append(_decode(inner, [own], elementwise("Div", number, groups)))
    found: Traced = cat(parts, 1)
    return found


def _groups(quantizer: GroupedQuantizer, latents: Traced) -> list[tuple[Quantizer, Traced]]:
    found, start = [], 0
    for index, size in enumerate(quantizer.sizes):
        inner = quantizer._inner[0 if quantizer.config.shared else index]
        found.append((inner, cut(latents, 1, start, start + size)))
        start += size
    return found


@_encoder(FiniteScalarQuantizer)
@_encoder(ScalarQuantizer)
def _encode_scalars(quantizer: FiniteScalarQuantizer, latents: Traced) -> Codes:
    layer = quantizer.project_in
    values = latents.double() if layer is None else _wide_linear(layer, latents.mT).mT
    digits: Any = quantizer._digits(values.unflatten(1, quantizer._shape))  # type: ignore[arg-type]
    return [quantizer._codes(digits)]  # type: ignore[list-item]


@_decoder(FiniteScalarQuantizer)
@_decoder(ScalarQuantizer)
def _decode_scalars(quantizer: FiniteScalarQuantizer, codes: Codes, number: Traced) -> Traced:
    entries: Any = quantizer._vectors(codes[0])  # type: ignore[arg-type]
    latents: Traced = entries.flatten(1, 2)
    layer = quantizer.project_out
    return latents if layer is None else _wide_linear(layer, latents.mT).float().mT


@_encoder(CodeSums)
def _encode_for_sums(quantizer: CodeSums, latents: Traced) -> Codes:
    return _encode(quantizer._searched(), latents)


@_decoder(CodeSums)
def _decode_sums(quantizer: CodeSums, codes: Codes, number: Traced) -> Traced:
    books = arange(len(quantizer.codebook_sizes))
    entries = traced(quantizer.rows)[codes[0] + (books * quantizer.size)[:, None]]
    used = (books < number).to(torch.float32)
    found: Traced = (entries * used[:, None, None]).sum(1).mT
    return found

"""The tokenizers of two surveys as data, and what this package does with each.

The surveys are "Recent Advances in Discrete Speech Tokens: A Review" (Guo et al. 2025, arXiv 2502.06490),
here *the review*, and "Discrete Audio Tokens: More Than a Survey!" (Mousavi et al. 2025, arXiv 2506.10274),
here *the survey*. An entry says what they say of a tokenizer: where it stands in their taxonomies, its rates,
and its published results with the table that each comes from. Empty and None mean: not found. What is
published is not always right; what is known to be wrong stands in `remarks`.
"""

from __future__ import annotations

import difflib
import functools
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import resources
from typing import Literal

from audiotokens.config import from_dict
from audiotokens.errors import TokenizerNotFoundError

Kind = Literal["acoustic", "semantic", "classical"]
Domain = Literal["speech", "music", "audio"]
Status = Literal["imports", "builds", "neither"]
Family = Literal[
    "",
    "general purpose",
    "semantic distillation",
    "disentanglement",
    "self-supervised",
    "perturbation-invariant",
    "supervised",
]
Method = Literal[
    "global encoder",
    "predictive coding",
    "multi-resolution",
    "variable bitrate",
    "latent diffusion",
    "separate vocoder",
    "codebook training",
    "feature guidance",
    "fixed semantic codebook",
    "semantic features in or out",
    "gradient reversal",
    "similarity penalty",
    "perturbation",
    "source separation",
    "contrastive",
    "predictive",
    "inner quantizer",
    "external quantizer",
    "noise-invariant",
    "speaker-invariant",
    "variable frame rate",
]
Quantization = Literal[
    "RVQ", "GVQ", "GRVQ", "SVQ", "MSRVQ", "CSRVQ", "PQ", "FSQ", "BSQ", "K-means", "Gumbel", "scalar"
]
Objective = Literal[
    "GAN",
    "Feat",
    "Rec",
    "VQ",
    "Diff",
    "MP",
    "Pred",
    "contrastive",
    "clustering",
    "teacher-student",
    "ASR",
    "CTC",
    "flow matching",
]

SORTS = ("name", "year", "bitrate", "frame-rate")
"""What the order of `find` can go by."""


@dataclass(frozen=True)
class Books:
    """Books of one size at one frame rate.

    Args:
        counts: how many of them can be used, in rising order; empty: unknown.
        size: entries of each.
        frame_rate: codes per second of each; 0 where they stand for the whole recording.
    """

    counts: tuple[int, ...] = ()
    size: int | None = None
    frame_rate: float | None = None

    def bitrate(self, number: int) -> float | None:
        """Nominal bits per second of `number` books; None where a fact is missing."""
        if self.frame_rate is None or self.size is None:
            return None
        return number * self.frame_rate * math.log2(self.size)


@dataclass(frozen=True)
class Setting:
    """One configuration that was published.

    Args:
        name: how it is told from the others; empty where there is one.
        sample_rate: in Hz.
        books: all groups are used together.
        bitrates: in bits per second as published, in rising order.
        parameters: numbers in the model.
        macs: multiply-adds per second of audio.
    """

    name: str = ""
    sample_rate: int | None = None
    books: tuple[Books, ...] = ()
    bitrates: tuple[float, ...] = ()
    parameters: int | None = None
    macs: float | None = None

    @property
    def nominal_bitrates(self) -> tuple[float, ...]:
        """Bits per second with the fewest and with the most books; empty where a fact is missing."""
        if not self.books or not all(group.counts for group in self.books):
            return ()
        ends = []
        for end in (0, -1):
            parts = [group.bitrate(group.counts[end]) for group in self.books]
            if None in parts:
                return ()
            ends.append(sum(part for part in parts if part is not None))
        return tuple(dict.fromkeys(ends))


@dataclass(frozen=True)
class Result:
    """One row of a published table.

    Args:
        source: key of `sources()`.
        system: what the table calls the tokenizer.
        task: such as "reconstruction" or "speech recognition".
        values: by metric.
        data: what it was measured on; empty: the source does not say.
        codebooks: how many were used.
        bitrate: in bits per second, as the source says.
        deviations: standard deviations over runs by metric, where given.
        remark: what one must know about these numbers.
    """

    source: str
    system: str
    task: str
    values: dict[str, float]
    data: str = ""
    codebooks: int | None = None
    bitrate: float | None = None
    deviations: dict[str, float] = field(default_factory=dict)
    remark: str = ""


@dataclass(frozen=True)
class Entry:
    """One tokenizer.

    Args:
        name: unique.
        kind: "acoustic" is made for reconstruction, "semantic" is everything else (the review's terms).
        year: of the first publication.
        paper: arXiv number, or the venue.
        code: repository or package.
        hub: repositories with weights on the Hugging Face hub.
        family: class in the review's taxonomy; empty: the review does not place it.
        methods: its subclasses and means in the review.
        surveyed: whether the survey's taxonomy (its Table 1) has it.
        encoder: networks before the quantizer.
        decoder: networks behind it; "none" where there is none.
        representation: what they read and write: "T" waveforms, "T-F" spectra.
        quantizers: in the surveys' terms.
        quantizer: what is special about it, in words.
        training: "joint", or "separate" where quantizer or decoder are trained after the encoder.
        objectives: in the survey's terms.
        auxiliary: the survey's extra aims: "Dis" disentanglement, "SD" semantic distillation, "SST"
            supervised semantic tokens.
        adaptive: whether the bitrate depends on the sound.
        streamable: as its authors or the surveys say; None: nobody says. Of what this package builds,
            `verify` tells the truth.
        domains: what it was made for.
        disentangled: what its streams separate.
        settings: published configurations.
        code_license: of the repository.
        weights_license: of the weights, where it differs or is told apart.
        architecture: key of `registry.architectures` that builds it.
        published: names of its checkpoints that `load` knows.
        results: published ones.
        remarks: contradictions between sources, and mistakes in them.
        sources: keys of `sources()` that its facts come from.
    """

    name: str
    kind: Kind
    year: int | None = None
    paper: str = ""
    code: str = ""
    hub: tuple[str, ...] = ()
    family: Family = ""
    methods: tuple[Method, ...] = ()
    surveyed: bool = False
    encoder: str = ""
    decoder: str = ""
    representation: tuple[Literal["T", "T-F"], ...] = ()
    quantizers: tuple[Quantization, ...] = ()
    quantizer: str = ""
    training: Literal["", "joint", "separate"] = ""
    objectives: tuple[Objective, ...] = ()
    auxiliary: tuple[Literal["Dis", "SD", "SST"], ...] = ()
    adaptive: bool = False
    streamable: bool | None = None
    domains: tuple[Domain, ...] = ()
    disentangled: tuple[str, ...] = ()
    settings: tuple[Setting, ...] = ()
    code_license: str = ""
    weights_license: str = ""
    architecture: str = ""
    published: tuple[str, ...] = ()
    results: tuple[Result, ...] = ()
    remarks: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()

    @property
    def status(self) -> Status:
        """What this package does: "imports" checkpoints, "builds" the architecture, or "neither"."""
        if self.published:
            return "imports"
        return "builds" if self.architecture else "neither"

    @property
    def sample_rates(self) -> tuple[int, ...]:
        """Of all settings, in Hz."""
        return tuple(sorted({s.sample_rate for s in self.settings if s.sample_rate}))

    @property
    def frame_rates(self) -> tuple[float, ...]:
        """Of all books of all settings, in codes per second; global ones aside."""
        return tuple(sorted({b.frame_rate for s in self.settings for b in s.books if b.frame_rate}))

    @property
    def bitrates(self) -> tuple[float, float] | None:
        """Lowest and highest in bits per second: published, else nominal; None: unknown."""
        found = [rate for s in self.settings for rate in s.bitrates or s.nominal_bitrates if rate]
        return (min(found), max(found)) if found else None

    @property
    def parameters(self) -> tuple[int, ...]:
        """Of all settings."""
        return tuple(sorted({s.parameters for s in self.settings if s.parameters}))


@dataclass(frozen=True)
class _File:
    sources: dict[str, str]
    tokenizers: tuple[Entry, ...]


@functools.cache
def _file() -> _File:
    text = resources.files("audiotokens").joinpath("catalog.json").read_text(encoding="utf-8")
    return from_dict(_File, json.loads(text), where="catalog.json")


def catalog() -> tuple[Entry, ...]:
    """Return all entries, in the order of the review: acoustic tokenizers, then semantic ones.

    Example:
        >>> len(catalog()) > 100
        True
    """
    return _file().tokenizers


def sources() -> dict[str, str]:
    """Return what the keys in `Entry.sources` and `Result.source` stand for."""
    return dict(_file().sources)


def entry(name: str) -> Entry:
    """Return the entry of a name; letter case, spaces and hyphens do not matter.

    Raises:
        TokenizerNotFoundError: there is none; the nearest names are told.

    Example:
        >>> entry("mimi").quantizers
        ('RVQ',)
    """
    by_key = {_key(each.name): each for each in catalog()}
    key = _key(name)
    if key in by_key:
        return by_key[key]
    near = [k for k in by_key if key and key in k] or difflib.get_close_matches(key, by_key, n=4, cutoff=0.5)
    hint = " or ".join(f'"{by_key[k].name}"' for k in near[:6])
    found = f"did you mean {hint}?" if hint else '"audiotokens catalog" shows all names'
    raise TokenizerNotFoundError(f'the catalog has no "{name}"; {found}')


def find(
    *,
    streamable: bool | None = None,
    domain: Domain | None = None,
    kind: Kind | None = None,
    quantizer: str | None = None,
    built: bool | None = None,
    max_bitrate: float | None = None,
    sort: str | None = None,
) -> list[Entry]:
    """Return the entries for which all that is given holds; what is unknown never holds.

    Args:
        streamable: as its authors or the surveys say.
        domain: made for this one, perhaps among others.
        kind: acoustic, semantic or classical.
        quantizer: one of the surveys' terms, such as "RVQ"; letter case does not matter.
        built: whether this package builds it or imports its checkpoints.
        max_bitrate: its lowest bitrate is at most this, in bits per second.
        sort: one of `SORTS`, what is unknown last; default: the catalog's order.

    Raises:
        ValueError: `sort` is not one of `SORTS`.

    Example:
        >>> [each.name for each in find(quantizer="MSRVQ", built=True)]
        ['SNAC']
    """
    wanted = quantizer.casefold() if quantizer else None
    chosen = [
        each
        for each in catalog()
        if (streamable is None or each.streamable is streamable)
        and (domain is None or domain in each.domains)
        and (kind is None or each.kind == kind)
        and (wanted is None or wanted in map(str.casefold, each.quantizers))
        and (built is None or (each.status != "neither") is built)
        and (max_bitrate is None or (each.bitrates or (math.inf,))[0] <= max_bitrate)
    ]
    return chosen if sort is None else sorted(chosen, key=lambda each: _order(each, sort))


def metrics() -> Iterator[str]:
    """Yield every metric that published results have, once."""
    yield from dict.fromkeys(name for each in catalog() for result in each.results for name in result.values)


def _order(each: Entry, sort: str) -> tuple[float, str]:
    keys: dict[str, float | None] = {
        "name": 0,
        "year": each.year,
        "bitrate": each.bitrates[0] if each.bitrates else None,
        "frame-rate": min(each.frame_rates, default=None),
    }
    if sort not in keys:
        raise ValueError(f'sort is "{sort}", expected one of {", ".join(SORTS)}')
    value = keys[sort]
    return (math.inf if value is None else value, each.name.casefold())


def _key(name: str) -> str:
    return "".join(letter for letter in name.casefold() if letter.isalnum())

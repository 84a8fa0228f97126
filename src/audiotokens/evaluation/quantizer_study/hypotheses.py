"""Five claims of the surveys, each with the figures that speak for or against it.

Intervals are 95 %: over seeds by Student's t, over speakers by the bootstrap.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from audiotokens.evaluation.quantizer_study.figures import Group, Results, measured_bits, utilisation
from audiotokens.evaluation.quantizer_study.listening import OPINION_MEASURES, REFERENCE_MEASURES
from audiotokens.evaluation.quantizer_study.plan import DROPPED, HIGH_DIMENSION
from audiotokens.evaluation.quantizer_study.references import SHIPPED, UNQUANTIZED
from audiotokens.evaluation.statistics import Interval, paired_interval, repeated_interval

FAMILIES = (("RVQ", "rvq"), ("FSQ", "fsq"), ("VQ", "vq-expiry"))
"""Families of claim H3 and what stands for them: VQ in its best form."""
LOWER_IS_BETTER = ("mel/vocos",)


@dataclass(frozen=True)
class Table:
    """Figures of one claim.

    Args:
        name: such as "H1".
        claim: in one sentence.
        falsified: what would speak against it.
        header: of the columns.
        rows: texts.
    """

    name: str
    claim: str
    falsified: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def all_tables(results: Results) -> list[Table]:
    """The five claims, in order."""
    return [
        _collapse(results),
        _order(results),
        _matched(results),
        _judges(results),
        _first_book(results),
    ]


def interval_text(interval: Interval, digits: int = 2) -> str:
    """A mean with its interval."""
    if interval.mean is None:
        return "not known"
    if interval.low is None or interval.high is None:
        return f"{interval.mean:.{digits}f}"
    return f"{interval.mean:.{digits}f} ({interval.low:.{digits}f} to {interval.high:.{digits}f})"


def _collapse(results: Results) -> Table:
    rows = []
    for features, subjects in (("trunk", HIGH_DIMENSION), ("latent", HIGH_DIMENSION)):
        kind = "trunk" if features == "trunk" else "latent"
        for name in subjects:
            for group in results.curve(name, "trunk" if features == "trunk" else "latent"):
                plain = results.group("grid", "vq-plain", group.bits, group.features)
                rows.append(
                    (
                        "128" if kind == "trunk" else "48",
                        group.label,
                        f"{group.results[0].usage.nominal_bits:.2f}",
                        interval_text(repeated_interval(group.values(utilisation))),
                        interval_text(repeated_interval(group.values(measured_bits))),
                        _over_plain(group, plain),
                        interval_text(repeated_interval(group.values(results.distortion)), 3),
                    )
                )
    return Table(
        "H1",
        "FSQ keeps (nearly) full usage without auxiliary losses; VQ collapses in high dimension.",
        "VQ without tricks reaches the same perplexity.",
        (
            "dimensions",
            "quantizer",
            "nominal bits",
            "used, against uniform",
            "entropy, bits",
            "entropy more than VQ without tricks",
            "distortion",
        ),
        tuple(rows),
    )


def _over_plain(group: Group, plain: Group | None) -> str:
    """Difference of entropies seed by seed."""
    if plain is None or group.subject == "vq-plain":
        return ""
    pairs = zip(group.values(measured_bits), plain.values(measured_bits))
    return interval_text(repeated_interval([one - other for one, other in pairs]))


def _order(results: Results) -> Table:
    rows = []
    for name in DROPPED:
        for group in (g for g in results.groups.values() if (g.task, g.subject) == ("drop", name)):
            count = len(group.results[0].usage.books)
            for book in range(count):
                increase = [r.reduced[str(book)] - results.distortion(r) for r in group.results]
                mel = _clip_means(group, str(book), "mel/vocos")
                base = _clip_means(group, "all", "mel/vocos")
                rows.append(
                    (
                        group.label,
                        str(book + 1),
                        interval_text(repeated_interval(increase), 4),
                        interval_text(_over_speakers(mel, base), 3),
                    )
                )
    return Table(
        "H2",
        "RVQ goes from coarse to fine, the groups of GVQ are equal, nested dropout orders them.",
        "The loss by dropped book is flat for RVQ, or not flat for GVQ.",
        ("quantizer", "book left out", "distortion more", "mel distance more"),
        tuple(rows),
    )


def _matched(results: Results) -> Table:
    rows = []
    known = [(label, name) for label, name in FAMILIES if len(results.curve(name)) > 1]
    ranges = [results.measured_range(name) for _, name in known]
    if len(known) > 1 and max(low for low, _ in ranges) < min(high for _, high in ranges):
        low, high = max(low for low, _ in ranges), min(high for _, high in ranges)
        for bits in np.linspace(low, high, 4):
            for (one, first), (other, second) in combinations(known, 2):
                difference = results.compared(
                    results.errors_at(first, float(bits)), results.errors_at(second, float(bits))
                )
                rows.append(
                    (f"{bits:.1f} measured bits", f"{one} less {other}", interval_text(difference), "")
                )
    for bits in sorted({g.bits for g in results.groups.values() if g.task == "audio"}):
        for (one, first), (other, second) in combinations(known, 2):
            pair = results.group("audio", first, bits), results.group("audio", second, bits)
            if pair[0] is not None and pair[1] is not None:
                rows.append(
                    (
                        f"{bits} nominal bits (measured {_bits(pair[0])} and {_bits(pair[1])})",
                        f"{one} less {other}",
                        "",
                        interval_text(_measured_difference(pair[0], pair[1], "pesq-wb")),
                    )
                )
    return Table(
        "H3",
        "RVQ reconstructs better than FSQ, and FSQ better than one book of VQ, at matched bits.",
        "The order changes beyond the interval.",
        ("bits per frame", "pair", "distortion, dB", "PESQ-WB"),
        tuple(rows),
    )


def _judges(results: Results) -> Table:
    rows = []
    for bits in sorted({g.bits for g in results.groups.values() if g.task == "audio"}):
        fsq, rvq = results.group("audio", "fsq", bits), results.group("audio", "rvq", bits)
        whole = results.group("audio", UNQUANTIZED, 0)
        if fsq is None or rvq is None:
            continue
        for measure in (*REFERENCE_MEASURES, *OPINION_MEASURES):
            if measure in fsq.results[0].heard["all"]:
                difference = _measured_difference(fsq, rvq, measure)
                rows.append(
                    (
                        str(bits),
                        measure,
                        "reference" if measure in REFERENCE_MEASURES else "no reference",
                        _mean_text(_clip_means(fsq, "all", measure)),
                        _mean_text(_clip_means(rvq, "all", measure)),
                        _mean_text(_clip_means(whole, "all", measure)) if whole else "",
                        interval_text(difference, 3),
                        _winner(difference, measure),
                    )
                )
    return Table(
        "H4",
        "FSQ beats RVQ on reference-free quality while losing on reference metrics.",
        "The two kinds of measures rank the two quantizers equally.",
        ("nominal bits", "measure", "kind", "FSQ", "RVQ", "unquantized", "FSQ less RVQ", "better"),
        tuple(rows),
    )


def _first_book(results: Results) -> Table:
    rows = []
    for group in (g for g in results.groups.values() if g.task == "prefix"):
        count = len(group.results[0].usage.books)
        label = "books of the frozen tokenizer" if group.subject == SHIPPED else group.label
        for book in range(1, count + 1):
            shares = [
                (r.reduced[str(book - 1)] - r.reduced[str(book)]) / (r.reduced["0"] - r.reduced[str(count)])
                for r in group.results
            ]
            gain = _over_speakers(
                _clip_means(group, str(book), "pesq-wb"),
                _clip_means(group, str(book - 1), "pesq-wb"),
            )
            rows.append(
                (label, str(book), interval_text(repeated_interval(shares), 3), interval_text(gain, 3))
            )
    return Table(
        "H5",
        "The first book dominates.",
        "Later books contribute more than the first.",
        ("quantizer", "book", "share of the variance explained", "PESQ-WB gained"),
        tuple(rows),
    )


def _clip_means(group: Group, key: str, measure: str) -> dict[int, float]:
    """Values of the clips, by their number, mean over the seeds that have one."""
    seeds = [r.heard[key].get(measure, ()) for r in group.results if key in r.heard]
    found: dict[int, float] = {}
    for index in range(min(map(len, seeds), default=0)):
        known = [value for value in (values[index] for values in seeds) if value is not None]
        if known:
            found[index] = float(np.mean(known))
    return found


def _measured_difference(first: Group, second: Group, measure: str) -> Interval:
    return _over_speakers(_clip_means(first, "all", measure), _clip_means(second, "all", measure))


def _over_speakers(first: dict[int, float], second: dict[int, float]) -> Interval:
    """Mean difference over clips; each is of another speaker."""
    names = {index: str(index) for index in first}
    return paired_interval(
        {names[i]: value for i, value in first.items()},
        {str(i): value for i, value in second.items()},
        {name: name for name in names.values()},
    )


def _winner(difference: Interval, measure: str) -> str:
    low, high = difference.low, difference.high
    if low is None or high is None or low <= 0 <= high:
        return "neither"
    return "FSQ" if (low > 0) != (measure in LOWER_IS_BETTER) else "RVQ"


def _mean_text(values: dict[int, float]) -> str:
    return f"{np.mean(list(values.values())):.3f}" if values else ""


def _bits(group: Group) -> str:
    return f"{group.mean(measured_bits):.1f}"


def training_points(group: Group) -> Iterator[tuple[int, float]]:
    """Step and entropy in bits along the training, mean over the seeds."""
    glimpses: Sequence[Sequence[float]] = [[g.entropy for g in r.training] for r in group.results]
    steps = [g.step for g in group.results[0].training]
    yield from zip(steps, (float(np.mean(values)) for values in zip(*glimpses)))

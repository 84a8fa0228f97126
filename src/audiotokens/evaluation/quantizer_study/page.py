"""The page of the study: what was done, tables and pictures; and the same figures as CSV and JSON."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path

from audiotokens.config import to_dict
from audiotokens.evaluation.machine import package_version, processor_name
from audiotokens.evaluation.quantizer_study.autoencoder import HIDDEN, Budget
from audiotokens.evaluation.quantizer_study.cells import LARGEST_START
from audiotokens.evaluation.quantizer_study.figures import (
    WIDTHS,
    Group,
    Results,
    embedding_parameters,
    measured_bits,
    utilisation,
)
from audiotokens.evaluation.quantizer_study.hypotheses import Table, all_tables
from audiotokens.evaluation.quantizer_study.plan import Plan
from audiotokens.evaluation.quantizer_study.plots import all_pictures
from audiotokens.evaluation.quantizer_study.subjects import BALANCED_BITS, SUBJECTS

PAGE = "quantizer-study.md"
_CAPTIONS = {
    "quantizer-usage": "Entropy of the codes as a share of the nominal bits: 1 is a book in even use",
    "quantizer-distortion": "Distortion of held-out latents over the measured entropy: lower is better",
    "quantizer-training": "Entropy of recent codes over training, 128 dimensions",
    "quantizer-vocabulary": "Distortion over the embeddings that a language model needs",
}


def write_page(results: Results, plan: Plan, folder: Path) -> Path:
    """Write page, pictures, `figures.csv` and `figures.json` to a folder; return the page."""
    images = folder / "images"
    images.mkdir(parents=True, exist_ok=True)
    pictures = all_pictures(results)
    for name, picture in pictures.items():
        (images / f"{name}.svg").write_text(picture, encoding="utf-8")
    tables = all_tables(results)
    rows = figure_rows(results)
    with (folder / "figures.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    content = {"plan": to_dict(plan), "grid": rows, "claims": [to_dict(table) for table in tables]}
    (folder / "figures.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    parts = [_introduction(results, plan), _grid_section(results)]
    parts += [f"![{_CAPTIONS[name]}](images/{name}.svg)\n" for name in pictures if name in _CAPTIONS]
    parts.append(_vocabulary_section(results))
    parts += [_claim_section(table) for table in tables]
    page = folder / PAGE
    page.write_text("\n".join(parts), encoding="utf-8")
    return page


def figure_rows(results: Results) -> list[dict[str, object]]:
    """One row for every group of the grid."""
    rows: list[dict[str, object]] = []
    for group in results.groups.values():
        if group.task != "grid":
            continue
        usage = group.results[0].usage
        distortions = group.values(results.distortion)
        sizes = [book.size for book in usage.books]
        rows.append(
            {
                "quantizer": group.label,
                "features": group.features,
                "books": len(sizes),
                "entries": max(sizes),
                "nominal_bits": round(usage.nominal_bits, 3),
                "measured_bits": round(group.mean(measured_bits), 3),
                "utilisation": round(group.mean(utilisation), 4),
                "least_coverage": round(min(b.coverage for r in group.results for b in r.usage.books), 3),
                "redundancy": _largest_redundancy(group),
                "distortion": round(sum(distortions) / len(distortions), 5),
                "distortion_least": round(min(distortions), 5),
                "distortion_most": round(max(distortions), 5),
                "vectors": group.results[0].rows,
                "seconds": round(group.mean(lambda result: result.seconds), 1),
                "seeds": len(group.results),
                **{f"embeddings_{width}": embedding_parameters(sizes, width) for width in WIDTHS},
            }
        )
    return rows


def _largest_redundancy(group: Group) -> float | str:
    known = [r.usage.redundancy for r in group.results if r.usage.redundancy is not None]
    return round(max(known), 4) if known else ""


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; cells must hold no bars."""
    lines = [
        "| " + " | ".join(header) + " |",
        "|" + "---|" * len(header),
        *("| " + " | ".join(row) + " |" for row in rows),
    ]
    return "\n".join(lines) + "\n"


def _introduction(results: Results, plan: Plan) -> str:
    about = results.about
    rows = [f"{bits} bits and more: {plan.rows_per_step * count:,}" for bits, count in plan.steps[:3]]
    left_out = [
        f"{subject.label} beyond {subject.bits} bits ({subject.why})"
        for subject in SUBJECTS.values()
        if subject.why
    ]
    started = "; ".join(subject.label for subject in SUBJECTS.values() if subject.data_start)
    return f"""# Quantizers compared on real latents

Made by `audiotokens bench quantizers --study collapse`. The encoder of `{about.tokenizer}` is frozen. Its
latents (48 dimensions, {about.frame_rate:g} frames per second) of {about.train_frames:,} frames of
{about.train_speakers} speakers are what every quantizer learns from; all figures are of
{sum(about.test.frames):,} frames of {len(set(about.test.speakers))} other speakers. "128 dimensions" are the
principal axes of the encoder's features before its last projection, standardised
({about.kept:.1%} of their variance).

Every quantizer stands between the same two perceptrons with {HIDDEN} hidden units, which start as the
identity and learn with it (Adam, the squared error plus the quantizer's own losses; rates
{Budget.rate:g}, and {Budget.quantizer_rate:g} for the quantizer's own parameters), from the same vectors in
the same order. Vectors seen: {"; ".join(rows)}. Seeds: {len(plan.seeds)}. k-means has no perceptrons, and
visits as many vectors over its iterations. Books that start from data, by k-means up to {LARGEST_START:,}
entries and from single vectors beyond: {started}. The others start at random.
The balanced VQ has a penalty of the entropy up to {BALANCED_BITS} bits, and beyond that only moves
entries of little use. Left out: {"; ".join(left_out)};
random projection, which has no decoder.

- *Distortion* is the squared error over the variance.
- *Measured bits* are the entropy of each book on the test frames (Chao and Shen 2003), summed over the books.
- *Used* is the number of entries that occurred over the number that uniform use touches with as many codes.
- *Coverage* is the share of further codes that would be known already: where it is low, the entropy is a
  guess.

Limits: short trainings, one domain (speech), one frozen encoder. Its decoder learned with an RVQ of its own,
so what sounds worse through it may only be unfamiliar to it: a disadvantage of all others, FSQ above all.

Machine: {processor_name()}, torch {package_version("torch")}, one thread for each of the processes.
"""


def _grid_section(results: Results) -> str:
    rows = [
        (
            str(row["quantizer"]),
            f"{row['books']} x {row['entries']:,}",
            f"{row['nominal_bits']:.2f}",
            f"{row['measured_bits']:.2f}",
            f"{row['utilisation']:.1%}",
            f"{row['least_coverage']:.0%}",
            f"{row['distortion']:.4f} ({row['distortion_least']:.4f} to {row['distortion_most']:.4f})",
        )
        for row in sorted(
            (row for row in figure_rows(results) if row["features"] == "latent"),
            key=lambda row: (round(float(str(row["nominal_bits"])) / 2), float(str(row["distortion"]))),
        )
    ]
    header = ("quantizer", "books", "nominal bits", "measured bits", "used", "coverage", "distortion (seeds)")
    return "## Usage and distortion by size\n\nBest distortion first.\n\n" + markdown_table(header, rows)


def _vocabulary_section(results: Results) -> str:
    rows = []
    for name in ("vq-expiry", "fsq", "rvq", "gvq"):
        for group in results.curve(name):
            sizes = [book.size for book in group.results[0].usage.books]
            rows.append(
                (
                    group.label,
                    f"{len(sizes)} x {max(sizes):,}",
                    f"{group.mean(measured_bits):.2f}",
                    f"{group.mean(results.distortion):.4f}",
                    *(f"{embedding_parameters(sizes, width) / 1e6:.2f} M" for width in WIDTHS),
                )
            )
    header = ("quantizer", "books", "measured bits", "distortion", *(f"width {width:,}" for width in WIDTHS))
    return (
        "## What a vocabulary costs a language model\n\nParameters of the embeddings, into the model and out "
        "of it, by its width.\n\n" + markdown_table(header, rows)
    )


def _claim_section(table: Table) -> str:
    return (
        f"## {table.name}: {table.claim}\n\nWould speak against it: {table.falsified} Intervals are 95 %.\n\n"
        + markdown_table(table.header, table.rows)
    )

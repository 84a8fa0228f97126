"""The part of the report about the ten promises: what verifying each tokenizer found."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from audiotokens.verify import Verdict, Verification
from audiotokens.verify.tally import ROUNDING, short

_CLASSES = {"kept": "better", "broken": "worse", "counted": "tie", "not offered": "none"}
_SIGNS = {"kept": "✓", "broken": "✗", "counted": "≈", "not offered": "–"}
_NONE = '<span class="none">–</span>'


def promises_section(verifications: Sequence[Verification]) -> str:
    """Return a table of verdicts for each tokenizer; nothing where none was verified."""
    if not verifications:
        return ""
    margins = any(verdict.smallest_margin is not None for each in verifications for verdict in each.verdicts)
    text = "Same audio, same tokens: each promise was tried, and what differed was counted."
    if margins:
        text += (
            " The margin of a code is the distance of the latent to the nearest other choice, relative to "
            f"the size of the latent. In fast mode, and between engines, rounding explains flips of up to "
            f"{short(ROUNDING)}; clearer codes that flip are a fault."
        )
    return (
        '<section id="promises" aria-labelledby="promises-title"><h2 id="promises-title">Promises</h2>'
        f"<p>{escape(text)}</p>{''.join(_table(each, margins) for each in verifications)}</section>"
    )


def _table(verification: Verification, margins: bool) -> str:
    counts = ", ".join(f"{status} {count}" for status, count in verification.counts.items())
    name = escape(verification.tokenizer)
    caption = escape(f"{verification.fingerprint[:8]}, {verification.conditions}: {counts}.")
    heads = [*(["Margin of a flip", "Smallest margin", "Median margin"] if margins else []), "Time"]
    head = "".join(f'<th scope="col">{text}</th>' for text in heads)
    head = f'<th scope="col">Promise</th><th scope="col" class="finding">Verdict</th>{head}'
    rows = "".join(_row(verdict, margins) for verdict in verification.verdicts)
    return (
        f'<div class="verdicts"><h4>{name}</h4><p class="caption">{caption}</p>'
        f'<div class="table" tabindex="0" role="region" aria-label="Promises of {name}">'
        f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div></div>"
    )


def _row(verdict: Verdict, margins: bool) -> str:
    finding, _, remarks = verdict.detail.partition("; ")
    # The margins have columns of their own.
    finding = finding.partition(" (smallest margin")[0]
    small = f"<small>{escape(remarks)}</small>" if remarks else ""
    status = f'<b class="{_CLASSES[verdict.status]}">{_SIGNS[verdict.status]} {verdict.status}</b>'
    said = "" if verdict.status == "not offered" else f" {escape(finding)}"
    if verdict.status == "not offered":
        said = escape(finding.removeprefix("not offered"))
    shown = (verdict.margin, verdict.smallest_margin, verdict.median_margin) if margins else ()
    cells = "".join(f"<td>{_NONE if margin is None else short(margin)}</td>" for margin in shown)
    return (
        f'<tr><th scope="row"><span>{verdict.promise} <small>{escape(verdict.title)}</small></span></th>'
        f'<td class="finding">{status}{said}{small}</td>{cells}<td>{verdict.seconds:,.1f} s</td></tr>'
    )

"""The card of an imported tokenizer: what it is, where it comes from, what its licence is, how to load it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from audiotokens.checkpoints.containers import SourceFile
from audiotokens.published import Published
from audiotokens.spec import Spec

_NONCOMMERCIAL = re.compile(r"(?i)\bNC\b|non-?commercial")


def is_noncommercial(license_name: str) -> bool:
    """Whether a licence forbids commercial use by its name, such as "CC-BY-NC-4.0"."""
    return bool(_NONCOMMERCIAL.search(license_name))


def license_text(spec: Spec) -> str:
    """Return the licence of the weights as a phrase that names what it forbids."""
    if not spec.weights_license:
        return "not known: ask whoever published the files"
    forbids = ": no commercial use" if is_noncommercial(spec.weights_license) else ""
    return f"{spec.weights_license}{forbids}"


def import_card(
    spec: Spec,
    *,
    variant: str,
    config_source: str,
    sources: Sequence[SourceFile],
    record: Published | None,
) -> str:
    """Return the README.md of an imported tokenizer.

    Args:
        spec: facts of the tokenizer.
        variant: name of the configuration; empty: of none.
        config_source: where the configuration comes from, as a phrase.
        sources: files that were read.
        record: what is known of the published checkpoint.
    """
    facts = {
        "architecture": spec.architecture,
        "variant": variant or "none of the published ones",
        "configuration from": config_source,
        "sample rate": f"{spec.sample_rate} Hz",
        "channels": str(spec.channels),
        "parameters": f"{spec.parameters:,}" if spec.parameters else "",
        "licence of the weights": license_text(spec),
        "licence of the code": spec.code_license,
        "training data": spec.training_data,
        "paper": f"https://arxiv.org/abs/{record.paper}" if record and record.paper else spec.source,
    }
    facts |= {f'stream "{s.name}"': _stream(s.codebook_sizes, float(s.frame_rate)) for s in spec.streams}
    if spec.features:
        features = spec.features
        facts["features"] = (
            f"{features.name}, {features.size} numbers, {float(features.frame_rate):g} frames/s"
        )
    rows = "\n".join(f"| {name} | {fact} |" for name, fact in facts.items() if fact)
    files = "\n".join(f"- `{file.path.name}`, {file.size} bytes, SHA-256 `{file.sha256}`" for file in sources)
    notes = [*(record.notes if record else ()), *spec.quirks]
    more = "\n\n## Notes\n\n" + "\n".join(f"- {note}" for note in notes) if notes else ""
    return (
        f"# {spec.name}\n\n"
        f"Imported by `audiotokens import` from the files below; weights in float32, weight norm folded.\n\n"
        f"| | |\n|---|---|\n{rows}\n\n"
        f"## Files\n\n{files}\n\n"
        f"## Use\n\n```python\nimport audiotokens\n\n"
        f'tokenizer = audiotokens.load("path/of/this/folder")\n```{more}\n'
    )


def _stream(sizes: Sequence[int], rate: float) -> str:
    books = f"{len(sizes)} x {sizes[0]}" if len(set(sizes)) == 1 else " + ".join(map(str, sizes))
    return f"{books} entries, {rate:g} frames/s"

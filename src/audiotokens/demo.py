"""The demo: audio in, tokens out, and back, with one page to hear, see and measure it."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from audiotokens.audio import audio_info, read_audio, resample, write_audio
from audiotokens.demo_sounds import MUSIC_RATE, VOICES, chords, drums, rain, speak, wind
from audiotokens.errors import AudioError, AudioTokensError
from audiotokens.evaluation.compare import compare
from audiotokens.evaluation.files import UNKNOWN, AudioFile, find_files
from audiotokens.evaluation.report import MAX_EXAMPLES, MAX_SECONDS, Example, Figure, headline, write_report
from audiotokens.spec import Spec
from audiotokens.tokenizer import Tokenizer

PAGE = "report.html"
_SHARES = (1, 2, 4, 12)
_MAX_PAGE_RATE = 48000

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class DemoResult:
    """What the demo made.

    Args:
        page: the report.
        figures: the figures that matter: bit rate, quality, speed.
        files: number of recordings that were used.
        notes: sentences a reader must see: what was cut, left out, or missing.
    """

    page: Path
    figures: tuple[Figure, ...]
    files: int
    notes: tuple[str, ...]


def make_demo_audio(folder: str | Path, seed: int = 0) -> list[Path]:
    """Write twelve short recordings and a `manifest.csv` that says what they are.

    Eight synthesized voices in seven languages, chords, drums, rain and wind. Without espeakng-loader (extra
    "demo") there are no voices.

    Args:
        folder: is created where needed; files in it are replaced.
        seed: of chords, drums, rain and wind; the voices vary by a few samples from run to run.

    Returns:
        The audio files.

    Raises:
        AudioTokensError: the folder cannot be written.
    """
    return _write_demo_audio(_made(Path(folder)), seed)[0]


def run_demo(
    audio: Sequence[str | Path] | None,
    output: str | Path,
    *,
    tokenizer: str | Path | Tokenizer = "speech-16k",
    domain: str | None = None,
    progress: Progress | None = None,
) -> DemoResult:
    """Encode, store, decode and measure recordings at four operating points, and write the report.

    The folder `output` gets `report.html`, `comparison.json`, and the folders `audio` (what was taken),
    `tokens` (`.tok` files) and `reconstructions`.

    Args:
        audio: files and folders; at most twelve files, evenly spread, are taken, and the first 20 s of each.
            None: the demo makes its own (`make_demo_audio`).
        output: folder; is created where needed.
        tokenizer: name, folder or object.
        domain: of the files where no `manifest.csv` says it: "speech", "music" or "sound"; default: what the
            tokenizer is for. PESQ and STOI need speech.
        progress: called with (done, total, what).

    Raises:
        AudioTokensError: no tokenizer of this name, no usable audio, or the output cannot be written.

    Example:
        >>> print(run_demo(None, "demo").page)  # doctest: +SKIP
    """
    chosen = tokenizer if isinstance(tokenizer, Tokenizer) else _load(tokenizer)
    folder = _made(Path(output))
    if audio is None:
        files, notes = _own_audio(folder / "audio")
    else:
        files, notes = _taken(audio, folder / "audio", domain, chosen.spec.taxonomy.domain)
    books = operating_points(chosen.spec)
    total = 2 * len(files) + 1
    report = progress or (lambda done, total, what: None)
    examples = []
    for done, file in enumerate(files):
        report(done, total, f"encode and decode {file.name}")
        examples.append(_through(chosen, file, books, folder))
    found = compare(
        chosen,
        files,
        num_codebooks=books,
        progress=lambda done, _, what: report(len(files) + done, total, f"measure {what}"),
    )
    report(total - 1, total, "draw the report")
    found = replace(found, notes=(*found.notes, *notes))
    found.write_json(folder / "comparison.json")
    source = "sounds made on this machine" if audio is None else "your recordings"
    page = write_report(folder / PAGE, found, examples, title=f"{chosen.spec.name} on {source}")
    report(total, total, "done")
    return DemoResult(page, headline(found), len(files), tuple(notes))


def operating_points(spec: Spec) -> tuple[int, ...]:
    """Return up to four numbers of books, rising: a twelfth, a quarter, a half and all, made legal."""
    most = max(spec.legal_prefixes)
    points = (
        max((k for k in spec.legal_prefixes if k <= most / share), default=min(spec.legal_prefixes))
        for share in _SHARES
    )
    return tuple(sorted(set(points)))


def _own_audio(folder: Path) -> tuple[list[Path], list[str]]:
    files, missing = _write_demo_audio(_made(folder), 0)
    notes = ["All sounds were made by this program: voices by espeak-ng, the rest by arithmetic."]
    if missing:
        notes = [f"There are no voices among the sounds: {missing}."]
    return files, notes


def _write_demo_audio(folder: Path, seed: int) -> tuple[list[Path], str]:
    missing = ""
    sounds: list[tuple[str, str, np.ndarray, int]] = []
    try:
        for voice in VOICES:
            speech, rate = speak(voice)
            sounds.append((f"speech-{voice.name}", "speech", speech[None], rate))
    except AudioTokensError as error:
        missing = str(error)
        sounds.clear()
    sounds += [(f"music-{make.__name__}", "music", make(seed), MUSIC_RATE) for make in (chords, drums)]
    sounds += [(f"sound-{make.__name__}", "sound", make(seed), MUSIC_RATE) for make in (rain, wind)]
    files = []
    for name, _, waveform, rate in sounds:
        files.append(folder / f"{name}.flac")
        write_audio(files[-1], waveform, rate, overwrite=True)
    _write_manifest(
        folder, [(file.name, sound[0], sound[1]) for file, sound in zip(files, sounds, strict=True)]
    )
    return files, missing


def _taken(
    audio: Sequence[str | Path], folder: Path, domain: str | None, usual: str
) -> tuple[list[Path], list[str]]:
    """Copy the beginnings of the chosen files to `folder`, under unique names."""
    found = find_files(list(audio), domain=domain)
    unknown = sum(file.domain == UNKNOWN for file in found)
    found = [replace(file, domain=usual) if file.domain == UNKNOWN else file for file in found]
    readable, notes = _readable(found, _made(folder))
    if not readable:
        raise AudioError(f"none of the {len(found)} files could be used; the first: {notes[0]}")
    if len(found) > MAX_EXAMPLES:
        notes.insert(
            0, f"{MAX_EXAMPLES} of {len(found)} files were taken, evenly spread over their sorted names."
        )
    if unknown:
        notes.append(
            f"Nobody said what the recordings are: they were measured as {usual}, for which this tokenizer "
            "was made; name the domain (speech, music or sound) where that is wrong."
        )
    _write_manifest(folder, [(path.name, file.speaker, file.domain) for path, file in readable])
    return [path for path, _ in readable], notes


def _readable(found: Sequence[AudioFile], folder: Path) -> tuple[list[tuple[Path, AudioFile]], list[str]]:
    readable: list[tuple[Path, AudioFile]] = []
    notes, shortened = [], 0
    count = min(len(found), MAX_EXAMPLES)
    for i in range(count):
        file = found[i * len(found) // count]
        try:
            frames = round(MAX_SECONDS * audio_info(file.path).sample_rate)
            waveform, rate = read_audio(file.path, frames=frames + 1)
            shortened += waveform.shape[1] > frames
            path = folder / f"{_unique(file.path.stem, [path.stem for path, _ in readable])}.flac"
            write_audio(path, waveform[:, :frames], rate, overwrite=True)
            readable.append((path, file))
        except AudioError as error:
            notes.append(str(error) if file.path.name in str(error) else f"{file.path.name}: {error}")
    if shortened:
        notes.append(
            f"{shortened} recordings are longer than {MAX_SECONDS:g} s: only their beginning was used."
        )
    return readable, notes


def _unique(stem: str, taken: Sequence[str]) -> str:
    """Return a name that stays unique where upper and lower case are the same."""
    used, name, copy = {each.casefold() for each in taken}, stem, 1
    while name.casefold() in used:
        copy += 1
        name = f"{stem} ({copy})"
    return name


def _through(tokenizer: Tokenizer, file: Path, books: Sequence[int], folder: Path) -> Example:
    """Encode one file, keep its tokens and reconstructions, and return it for the page at its own rate."""
    spec = tokenizer.spec
    waveform, rate = read_audio(file)
    tokens = tokenizer.encode(waveform, rate)
    tokens.save(_made(folder / "tokens") / f"{file.stem}.tok", overwrite=True)
    page_rate = min(rate, _MAX_PAGE_RATE)
    original = resample(waveform.mean(axis=0, keepdims=True), rate, page_rate)[0]
    versions = {}
    for number in books:
        decoded = tokenizer.decode(tokens, num_codebooks=number)
        path = _made(folder / "reconstructions") / f"{file.stem}-{number:02d}-books.flac"
        write_audio(path, decoded, spec.output_sample_rate, overwrite=True)
        mono = resample(decoded.mean(axis=0, keepdims=True), spec.output_sample_rate, page_rate)[0]
        label = f"{spec.bitrate(number) / 1000:.3g} kbit/s"
        versions[label] = np.pad(mono, (0, max(0, len(original) - len(mono))))[: len(original)]
    return Example(file.stem, page_rate, original, versions, tokens)


def _write_manifest(folder: Path, rows: Sequence[tuple[str, str, str]]) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([("path", "source_id", "domain"), *rows])
    (folder / "manifest.csv").write_text(text.getvalue(), encoding="utf-8")


def _made(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise AudioTokensError(f"{folder}: cannot make this folder: {error.strerror or error}") from None
    if not os.access(folder, os.W_OK):
        raise AudioTokensError(f"{folder}: no permission to write here, choose another folder")
    return folder


def _load(name: str | Path) -> Tokenizer:
    from audiotokens.registry import load

    return load(name)

"""The page that runs a tokenizer in the browser, exported, served and used in headless Chromium."""

from __future__ import annotations

import base64
import contextlib
import http.server
import importlib.util
import json
import re
import sys
import tarfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

import audiotokens
from audiotokens import CodeStream, Tokens, read_audio, write_audio
from audiotokens.audio import resample
from audiotokens.cli import main
from audiotokens.errors import AudioTokensError, CheckpointError, NotOfferedError
from audiotokens.export.web import RuntimeMissingError, export_web, runtime

NAMES = ("toy", "speech-16k-stream", "speech-16k")
SUBTYPES = ("PCM_16", "PCM_24", "PCM_32", "PCM_U8", "FLOAT", "DOUBLE")


def sound(rate: int, seconds: float = 1.3) -> np.ndarray:
    """A voice-like sound: gliding harmonics in syllables, and noise between them."""
    generator = np.random.default_rng(5)
    time = np.arange(round(seconds * rate) + 3) / rate
    phase = 2 * np.pi * np.cumsum(140 + 40 * np.sin(2 * np.pi * 1.3 * time)) / rate
    voice = sum(np.sin(k * phase) / k for k in range(1, 12)) * np.maximum(np.sin(2 * np.pi * 2.1 * time), 0)
    noise = generator.standard_normal(len(time)) * np.maximum(-np.sin(2 * np.pi * 2.1 * time), 0)
    return (0.15 * voice + 0.03 * noise).astype(np.float32)


@pytest.fixture(scope="session")
def toy(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The engine's toy tokenizer: a folder with graphs made by hand."""
    pytest.importorskip("onnx")
    spec = importlib.util.spec_from_file_location("web_toy", root / "tests" / "engines" / "toy.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    folder: Path = module.write_toy(tmp_path_factory.mktemp("web") / "toy")
    return folder


@pytest.fixture(scope="session")
def fake_runtime(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An unpacked package whose files hold nothing of use."""
    folder = tmp_path_factory.mktemp("package")
    (folder / "dist").mkdir()
    (folder / "package.json").write_text('{"version": "0.0.1"}')
    for name in runtime.RUNTIME_FILES:
        (folder / "dist" / name).write_text(name)
    return folder


def test_folder_is_complete_and_names_its_parts(toy: Path, fake_runtime: Path, tmp_path: Path) -> None:
    page = export_web(toy, tmp_path / "page", runtime=fake_runtime)
    folder = page.parent
    settings = json.loads((folder / "page.json").read_text())
    assert settings["runtime"] == "0.0.1" and settings["name"] == "toy"
    assert all((folder / name).stat().st_size == size for name, size in settings["sizes"].items())
    assert {path.name for path in toy.iterdir()} == {path.name for path in (folder / "model").iterdir()}
    text = page.read_text()
    assert "$" not in text and "http:" not in text and "https:" not in text
    notice = (folder / "onnxruntime" / "NOTICE.txt").read_text()
    assert "ONNX Runtime Web 0.0.1" in notice and "MIT License" in notice
    assert soundfile.info(folder / "sample.wav").samplerate == 8000
    assert export_web(toy, folder, runtime=fake_runtime) == page


def test_scripts_load_nothing_from_elsewhere(toy: Path, fake_runtime: Path, tmp_path: Path) -> None:
    folder = export_web(toy, tmp_path / "page", runtime=fake_runtime).parent
    for path in (*folder.glob("*.js"), *folder.glob("*.css")):
        assert not re.search(r"\w+://|//\w", path.read_text()), path.name


def test_refuses_what_it_cannot_do(toy: Path, fake_runtime: Path, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("mine")
    with pytest.raises(AudioTokensError, match="holds something else than such a page"):
        export_web(toy, tmp_path / "full", runtime=fake_runtime)
    with pytest.raises(RuntimeMissingError, match="no ort.wasm.min.mjs in it; expected the unpacked"):
        export_web(toy, tmp_path / "page", runtime=tmp_path)
    graphs = json.loads((toy / "graphs.json").read_text())
    half = tmp_path / "half"
    half.mkdir()
    for path in toy.iterdir():
        (half / path.name).write_bytes(path.read_bytes())
    (half / "graphs.json").write_text(json.dumps({**graphs, "encoder": None}))
    with pytest.raises(NotOfferedError, match="toy does not encode and decode: the page needs both"):
        export_web(half, tmp_path / "page", runtime=fake_runtime)
    assert export_web(toy, tmp_path / "page", runtime=fake_runtime), (
        "a failure leaves a folder that can be taken"
    )


def test_command_line_writes_the_page(toy: Path, fake_runtime: Path, tmp_path: Path) -> None:
    folder = tmp_path / "my page"
    command = ["export", str(toy), "--web", str(folder), "--runtime"]
    done = CliRunner().invoke(main, [*command, str(fake_runtime)])
    assert done.exit_code == 0 and (folder / "index.html").is_file()
    assert f"try: python -m http.server --directory '{folder}'" in done.output
    failed = CliRunner().invoke(main, [*command, str(tmp_path)])
    assert failed.exit_code == 2 and failed.output.startswith("error: ") and failed.output.count("\n") == 1


def fake_npm(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    npm = folder / "npm"
    npm.write_text(f"#!/bin/sh\n{script}\n")
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    monkeypatch.setenv("AUDIOTOKENS_CACHE", str(folder / "cache"))


def test_npm_brings_the_runtime_once(
    fake_runtime: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = tmp_path / "archive.tgz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(fake_runtime, "package")
    fake_npm(tmp_path, f"echo called >> {tmp_path}/calls; cp {archive} onnxruntime-web.tgz", monkeypatch)
    with pytest.raises(CheckpointError, match="from npm has the sha512 .*, expected q0y"):
        runtime.find_runtime()
    digest = base64.b64encode(runtime.hashlib.sha512(archive.read_bytes()).digest()).decode()
    monkeypatch.setattr(runtime, "INTEGRITY", f"sha512-{digest}")
    for _ in range(2):
        found = runtime.find_runtime()
    assert (tmp_path / "calls").read_text() == "called\n" * 2
    assert found.version == "0.0.1"
    assert (found.folder / "ort.wasm.min.mjs").read_text() == "ort.wasm.min.mjs"


def test_failing_npm_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_npm(tmp_path, "echo 'npm error no route' >&2; echo 'at home' >&2; exit 1", monkeypatch)
    with pytest.raises(
        RuntimeMissingError, match=r"npm cannot fetch onnxruntime-web .* \(no route\)"
    ) as caught:
        runtime.find_runtime()
    assert "\n" not in str(caught.value) and "--runtime FOLDER" in str(caught.value)
    monkeypatch.setenv("PATH", str(tmp_path / "cache"))
    with pytest.raises(RuntimeMissingError, match="comes by npm, which is not installed"):
        runtime.find_runtime()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def seen(
    run_browser: Callable[..., Any], toy: Path, root: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """What the pages of all NAMES gave; `folder` is where they and the recordings lie."""
    site = tmp_path_factory.mktemp("site")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AUDIOTOKENS_CACHE", str(root / ".cache"))
        try:
            for name in NAMES:
                export_web(toy if name == "toy" else name, site / "try" / name)
        except RuntimeMissingError as error:
            pytest.skip(str(error))
    pages = []
    with served(site) as address, served(site) as elsewhere:
        for name in NAMES:
            rate = 8000 if name == "toy" else 16000
            wav = site / f"{name}.wav"
            short = site / f"{name}-short.wav"
            write_audio(wav, sound(rate), rate)
            write_audio(short, sound(rate)[100:121], rate)
            page = {"name": name, "url": f"{address}/try/{name}/", "wav": str(wav), "short": str(short)}
            pages.append({**page, "rate": rate, "live": name == "speech-16k-stream"})
        wavs = [site / f"{subtype}.wav" for subtype in SUBTYPES]
        for path in wavs:
            left = sound(44100, 0.2)
            left += 0.2 * np.sin(2 * np.pi * 3400 * np.arange(len(left)) / 44100, dtype=np.float32)
            stereo = np.stack([left, -0.5 * left], 1)
            soundfile.write(path, stereo, 44100, subtype=path.stem)
        pages[0]["wavs"] = list(map(str, wavs))
        voice = str(site / "speech-16k-stream.wav")
        asked = json.dumps({"pages": pages, "voice": voice, "elsewhere": f"{elsewhere}/toy.wav"})
        found = run_browser(Path(__file__).parent / "web_browser.js", asked)
    return {**found, "folder": site}


def samples(coded: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(coded), np.float32)[None]


def python_of(seen: dict[str, Any], name: str, engine: str) -> audiotokens.Tokenizer:
    folder = seen["folder"] / "try" / name / "model"
    return audiotokens.load(folder, engine=engine)


@pytest.mark.browser
@pytest.mark.parametrize("name", NAMES)
def test_tokens_and_samples_are_those_of_python(seen: dict[str, Any], name: str) -> None:
    tokenizer = python_of(seen, name, "onnx")
    brief = tokenizer.encode(*read_audio(seen["folder"] / f"{name}-short.wav"))
    assert without_source(tokens_of(seen[name]["brief"])) == without_source(brief)
    tokens = tokens_of(seen[name]["tokens"])
    for engine in ("onnx",) if name == "toy" else ("onnx", "torch"):
        expected = python_of(seen, name, engine).encode(*read_audio(seen["folder"] / f"{name}.wav"))
        flips = int((expected.codes != tokens.codes).sum())
        print(f"{name}: {flips} of {tokens.codes.size} codes differ from those of {engine}")
        # Last bits may flip one near tie, and with it the books that follow in its frame.
        assert flips < expected.num_codebooks
        same = replace(tokens, streams=expected.streams, source=None)
        assert same == without_source(expected)
    for books, coded in ((1, "few"), (None, "all")):
        decoded = tokenizer.decode(tokens, num_codebooks=books)
        np.testing.assert_allclose(samples(seen[name][coded]), decoded, atol=1e-4, rtol=0)


@pytest.mark.browser
@pytest.mark.parametrize("name", NAMES)
def test_page_shows_the_recording(seen: dict[str, Any], name: str) -> None:
    page, frames = seen[name], len(next(iter(seen[name]["tokens"]["streams"].values()))["codes"][0])
    assert page["figures"]["frames"] == frames and 0 < page["figures"]["step"] < 1000
    assert "code" in page["readout"] and "frame" in page["readout"]
    assert min(page["drawn"]) > 4
    assert page["saved"] == page["tokens"] and page["name"] == "given.tokens.json"
    assert page["width"] <= 360
    assert page["status"].startswith("This browser cannot decode the file")


@pytest.mark.browser
@pytest.mark.parametrize("name", NAMES)
def test_nothing_leaves_the_machine(seen: dict[str, Any], name: str) -> None:
    assert seen[name]["log"] == []
    assert seen[name]["foreign"] == ["refused", "refused"]


@pytest.mark.browser
def test_microphone_is_encoded_as_it_comes(seen: dict[str, Any]) -> None:
    recorded = seen["speech-16k-stream"]["recorded"]
    assert recorded["live"]["frames"] > 50 and recorded["live"]["latency"] >= 40
    tokens = recorded["tokens"]
    stream = tokens["streams"]["codes"]
    codes = np.array(stream["codes"])
    assert codes.shape == (12, -(-tokens["num_samples"] // 320))
    tokenizer = python_of(seen, "speech-16k-stream", "onnx")
    again = tokenizer.decode(tokens_of(tokens))
    # Chromium plays the file as the microphone from any place on, in a loop.
    power = float(np.mean(again**2) / np.mean(sound(16000) ** 2))
    assert 0.2 < power < 5


def tokens_of(saved: dict[str, Any]) -> Tokens:
    """What a page saves, as tokens."""
    streams = {
        name: CodeStream(np.array(s["codes"]), tuple(s["codebook_sizes"]), Fraction(s["frame_rate"]))
        for name, s in saved["streams"].items()
    }
    facts = (saved[key] for key in ("num_samples", "sample_rate", "channels", "tokenizer", "fingerprint"))
    return Tokens(streams, *facts)


def without_source(tokens: Tokens) -> Tokens:
    return replace(tokens, source=None)


@pytest.mark.browser
def test_wav_files_are_read_as_python_reads_them(seen: dict[str, Any]) -> None:
    for subtype, rows in zip(SUBTYPES, seen["toy"]["modules"]["read"]):
        expected, _ = read_audio(seen["folder"] / f"{subtype}.wav")
        np.testing.assert_array_equal(np.array(rows, np.float32), expected, err_msg=subtype)


@pytest.mark.browser
def test_other_rates_are_resampled_whatever_the_pieces(seen: dict[str, Any]) -> None:
    waveform, _ = read_audio(seen["folder"] / f"{SUBTYPES[0]}.wav")
    expected = resample(waveform[:1], 44100, 8000)[0]
    found = np.array(seen["toy"]["modules"]["resampled"])
    assert len(found) == len(expected)
    error = np.mean((found - expected)[50:-50] ** 2) / np.mean(expected**2)
    assert error < 1e-2  # the bands end differently

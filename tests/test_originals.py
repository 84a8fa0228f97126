"""Published checkpoints by name: what is found on this machine, what is fetched, what is said otherwise."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
import types
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from audiotokens import hub, originals, registry
from audiotokens.errors import AudioTokensError, CheckpointError, MissingExtraError, TokenizerNotFoundError
from audiotokens.published import File, Origin, Published, published
from audiotokens.spec import StreamSpec

load: Any = registry.load

WEIGHTS = b"weights " * 1000
SHA256 = hashlib.sha256(WEIGHTS).hexdigest()
SPEC = {
    "name": "tiny",
    "sample_rate": 16000,
    "output_sample_rate": 16000,
    "streams": [{"name": "codes", "codebook_sizes": [4], "frame_rate": "50"}],
    "legal_prefixes": [1],
}
CONFIG = {"format": "audiotokens", "version": 1, "architecture": "fake", "config": {}, "spec": SPEC}
HUB = Origin((File("deep/tiny.pt"),), File("deep/config.json"), hub="org/tiny")
WEB = Origin((File("tiny-00.th", SHA256[:8]),), address="http://127.0.0.1:9/v0/")


class Importer:
    """Stands for the import engine: keeps what it was asked, and writes a folder."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []
        self.error: Exception | None = None

    def __call__(
        self,
        architecture: str,
        weights: tuple[Path, ...],
        *,
        config: str | Path,
        output: Path,
        name: str,
        record: Published,
    ) -> None:
        content = [path.read_bytes() for path in weights]
        self.calls.append({"weights": [*weights], "content": content, "config": config, "name": name})
        assert architecture == record.architecture
        output.mkdir()
        (output / "model.safetensors").write_bytes(b"")
        if self.error:
            raise self.error
        (output / "config.json").write_text(json.dumps(CONFIG))


class Family:
    """Stands for an architecture: its tokenizer is the folder."""

    @classmethod
    def load(cls, folder: Path, **options: object) -> Path:
        return folder


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with empty caches whose network is out of reach."""
    for name in (
        "AUDIOTOKENS_OFFLINE",
        "HF_HUB_OFFLINE",
        "HF_HUB_CACHE",
        "HUGGINGFACE_HUB_CACHE",
        "HF_TOKEN",
    ):
        monkeypatch.delenv(name, raising=False)
    folders = {
        "AUDIOTOKENS_CACHE": "cache",
        "HOME": "home",
        "XDG_CACHE_HOME": "xdg",
        "HF_HOME": "hf",
        "TORCH_HOME": "torch",
        "AUDIOTOKENS_LYRA": "lyra",
    }
    for name, folder in folders.items():
        monkeypatch.setenv(name, str(tmp_path / folder))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def importer(monkeypatch: pytest.MonkeyPatch) -> Importer:
    engine, module = Importer(), types.ModuleType("fake_engine")
    module.__dict__.update(Family=Family, run_import=engine)
    monkeypatch.setitem(sys.modules, "fake_engine", module)
    monkeypatch.setitem(registry.architectures, "fake", "fake_engine:Family")
    monkeypatch.setattr(originals, "_IMPORTER", "fake_engine:run_import")
    return engine


@pytest.fixture
def publish(monkeypatch: pytest.MonkeyPatch) -> Any:
    def add(*origins: Origin, name: str = "tiny-16khz", **facts: Any) -> Published:
        known: dict[str, Any] = {"license": "MIT", "paper": "2401.00001", "training_data": ""} | facts
        streams = (StreamSpec("codes", (4,), Fraction(50)),)
        record = Published(name, "fake", "tiny", origins, sample_rate=16000, streams=streams, **known)
        monkeypatch.setitem(published, name, record)
        return record

    return add


def write(path: Path, content: bytes = WEIGHTS) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def files_below(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def snapshot(cache: Path, revision: str = "c" * 40, *, repository: str = "org/tiny") -> Path:
    return cache / f"models--{repository.replace('/', '--')}" / "snapshots" / revision


def test_an_imported_folder_is_enough(machine: Path, importer: Importer, publish: Any) -> None:
    record = publish(WEB)
    assert originals.state(record) == "not here"
    folder = write(machine / "cache/tokenizers/tiny-16khz/config.json", json.dumps(CONFIG).encode()).parent
    assert load("tiny-16khz") == folder
    assert originals.state(record) == "imported"
    assert importer.calls == []


def test_files_are_imported_once(machine: Path, importer: Importer, publish: Any) -> None:
    record = publish(WEB)
    path = write(machine / "cache/originals/tiny-16khz/tiny-00.th")
    assert originals.state(record) == "here"
    assert load("tiny-16khz") == load("tiny-16khz") == machine / "cache/tokenizers/tiny-16khz"
    assert importer.calls == [
        {"weights": [path], "content": [WEIGHTS], "config": "tiny", "name": "tiny-16khz"}
    ]
    assert files_below(machine) == {
        "cache/originals/tiny-16khz/tiny-00.th",
        "cache/tokenizers/tiny-16khz/config.json",
        "cache/tokenizers/tiny-16khz/model.safetensors",
    }


@pytest.mark.parametrize(
    ("variable", "value", "folder"),
    [
        ("HF_HOME", "hf", "hf/hub"),
        ("HF_HUB_CACHE", "given", "given"),
        ("HUGGINGFACE_HUB_CACHE", "given", "given"),
        ("HF_HOME", "", "xdg/huggingface/hub"),
    ],
)
def test_the_hubs_cache_is_looked_into(
    machine: Path,
    importer: Importer,
    publish: Any,
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    value: str,
    folder: str,
) -> None:
    monkeypatch.setenv(variable, str(machine / value) if value else "")
    publish(WEB, HUB)
    root = snapshot(machine / folder)
    write(root / "deep/tiny.pt")
    with pytest.raises(TokenizerNotFoundError):  # The configuration is not here.
        load("tiny-16khz")
    config = write(root / "deep/config.json", b"{}")
    load("tiny-16khz")
    assert importer.calls[0]["weights"] == [root / "deep/tiny.pt"]
    assert importer.calls[0]["config"] == config


def test_another_cache_can_be_named(machine: Path, importer: Importer, publish: Any) -> None:
    publish(HUB)
    root = snapshot(machine / "mine")
    write(root / "deep/tiny.pt")
    write(root / "deep/config.json")
    assert load("tiny-16khz", cache_dir=machine / "mine") == machine / "mine/tokenizers/tiny-16khz"
    assert not (machine / "cache").exists()


def test_the_revision_of_main_comes_first(machine: Path) -> None:
    cache = machine / "hf/hub"
    for age, revision in enumerate(["a", "b", "c"]):
        folder = snapshot(cache, revision)
        folder.mkdir(parents=True)
        os.utime(folder, (1000 - age, 1000 - age))
    assert [path.name for path in hub.snapshots("org/tiny", cache)] == ["a", "b", "c"]
    write(cache / "models--org--tiny/refs/main", b"c\n")
    assert [path.name for path in hub.snapshots("org/tiny", cache)] == ["c", "a", "b"]
    assert list(hub.snapshots("org/absent", cache)) == []


@pytest.mark.parametrize(
    ("name", "places"),
    [
        ("dac-44khz", ["home/.cache/descript/dac/weights_44khz_8kbps_0.0.1.pth"]),
        ("dac-44khz", ["home/.cache/descript/44khz/0.0.1/dac/weights.pth"]),
        ("dac-24khz", ["home/.cache/descript/24khz/0.0.4/dac/weights.pth"]),
        ("dac-44khz-16kbps", ["home/.cache/descript/dac/weights_44khz_16kbps_1.0.0.pth"]),
        ("encodec-24khz", ["torch/hub/checkpoints/encodec_24khz-d7cc33bc.th"]),
        ("lyra-v2", ["lyra/soundstream_encoder.tflite", "lyra/quantizer.tflite", "lyra/lyragan.tflite"]),
        ("mimi", ["hf/hub/models--kyutai--mimi/snapshots/abc/model.safetensors",
                  "hf/hub/models--kyutai--mimi/snapshots/abc/config.json"]),
        ("speechtokenizer-hubert-avg", ["cache/originals/speechtokenizer-hubert-avg/SpeechTokenizer.pt",
                                        "cache/originals/speechtokenizer-hubert-avg/config.json"]),
    ],
)  # fmt: skip
def test_places_of_the_authors_packages(machine: Path, name: str, places: list[str]) -> None:
    record = published[name]
    for place in places:
        assert originals.state(record) == "not here"
        write(machine / place)
    assert originals.state(record) == "here"
    found = originals.find(record)
    assert found is not None
    assert [*found.weights, *([found.config] if found.config else [])] == [machine / p for p in places]


def test_no_other_model_of_dac_is_taken(machine: Path) -> None:
    write(machine / "home/.cache/descript/dac/weights_24khz_8kbps_0.0.4.pth")
    states = {name: originals.state(published[name]) for name in published if name.startswith("dac")}
    assert states.pop("dac-24khz") == "here"
    assert set(states.values()) == {"not here"}


@pytest.mark.parametrize(
    ("file", "message"),
    [
        (File("tiny.th", "0" * 64), f"has the SHA-256 {SHA256}, expected {'0' * 64}"),
        (File("tiny.th", "0" * 8), f"has the SHA-256 {SHA256[:8]}, expected 00000000"),
        (File("tiny.th", SHA256, 7), "has 8000 bytes, expected 7"),
    ],
)
def test_a_damaged_file_is_named(
    machine: Path, importer: Importer, publish: Any, file: File, message: str
) -> None:
    publish(Origin((file,), address="http://127.0.0.1:9/"))
    path = write(machine / "cache/originals/tiny-16khz/tiny.th")
    with pytest.raises(CheckpointError) as caught:
        load("tiny-16khz")
    assert str(caught.value).startswith(f"{path} {message}: put tiny.th from http://127.0.0.1:9/ into ")
    assert importer.calls == []


def test_a_damaged_file_is_passed_over(machine: Path, importer: Importer, publish: Any) -> None:
    publish(Origin(WEB.weights, address=WEB.address, elsewhere=("{torch}", "{NOT_SET}")))
    write(machine / "cache/originals/tiny-16khz/tiny-00.th", b"other")
    write(machine / "torch/tiny-00.th")
    load("tiny-16khz")
    assert importer.calls[0]["weights"] == [machine / "torch/tiny-00.th"]


@pytest.mark.parametrize("variable", ["AUDIOTOKENS_OFFLINE", "HF_HUB_OFFLINE"])
def test_offline_one_sentence_says_what_to_put_where(
    machine: Path, importer: Importer, publish: Any, server: Server, monkeypatch: Any, variable: str
) -> None:
    publish(server.origin(File("tiny.th")), HUB)
    monkeypatch.setenv(variable, "1")
    with pytest.raises(TokenizerNotFoundError) as caught:
        load("tiny-16khz")
    assert str(caught.value) == (
        'the files of "tiny-16khz" are not on this machine and cannot be fetched (the network is switched '
        f"off): put tiny.th from {server.address}, or tiny.pt and config.json from "
        f"https://huggingface.co/org/tiny into {machine / 'cache/originals/tiny-16khz'}"
    )
    assert server.asked == []
    assert not (machine / "cache").exists()


def test_a_network_out_of_reach_is_told(machine: Path, importer: Importer, publish: Any) -> None:
    publish(WEB, HUB)
    with pytest.raises(
        TokenizerNotFoundError, match=r"cannot be fetched \(127\.0\.0\.1:9: Connection refused\)"
    ):
        load("tiny-16khz")
    assert files_below(machine) == set()


class Server:
    """A web server of this machine: what it has by path, and what it was asked."""

    def __init__(self) -> None:
        self.files: dict[str, tuple[bytes, str]] = {}
        self.asked: list[tuple[str, str | None]] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.http.server_port}/"

    def origin(self, *files: File) -> Origin:
        return Origin(files, address=self.address)

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        self.asked.append((request.path, request.headers.get("Authorization")))
        content, manner = self.files.get(request.path, (b"", "absent"))
        if manner == "moved":
            request.send_response(302)
            request.send_header("Location", content.decode())
            request.end_headers()
            return
        request.send_response(404 if manner == "absent" else 200)
        if manner != "unannounced":
            request.send_header("Content-Length", str(len(content) + 100 * (manner == "cut")))
        request.end_headers()
        request.wfile.write(content)


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.http.serve_forever, daemon=True)
    thread.start()
    yield server
    server.http.shutdown()
    server.http.server_close()
    thread.join()


def test_files_are_fetched_checked_and_imported(
    machine: Path, importer: Importer, publish: Any, server: Server
) -> None:
    publish(server.origin(File("tiny.th", SHA256, len(WEIGHTS)), File("more.th", SHA256[:8])))
    server.files |= {"/tiny.th": (WEIGHTS, ""), "/more.th": (WEIGHTS, "unannounced")}
    load("tiny-16khz")
    assert importer.calls[0]["content"] == [WEIGHTS, WEIGHTS]
    assert files_below(machine) == {
        "cache/originals/tiny-16khz/tiny.th",
        "cache/originals/tiny-16khz/more.th",
        "cache/tokenizers/tiny-16khz/config.json",
        "cache/tokenizers/tiny-16khz/model.safetensors",
    }
    load("tiny-16khz")
    assert len(server.asked) == 2


def test_files_of_the_hub_are_fetched_with_its_login_but_not_elsewhere(
    machine: Path, importer: Importer, publish: Any, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = types.ModuleType("huggingface_hub")
    module.__dict__["get_token"] = lambda: "secret"
    monkeypatch.setitem(sys.modules, "huggingface_hub", module)
    monkeypatch.setenv("HF_ENDPOINT", server.address)
    publish(HUB)
    server.files |= {
        "/org/tiny/resolve/main/deep/tiny.pt": (f"{server.address}stored".encode(), "moved"),
        "/stored": (WEIGHTS, ""),
        "/org/tiny/resolve/main/deep/config.json": (b"{}", ""),
    }
    load("tiny-16khz")
    assert importer.calls[0]["content"] == [WEIGHTS]
    assert importer.calls[0]["config"] == machine / "cache/originals/tiny-16khz/config.json"
    assert server.asked == [
        ("/org/tiny/resolve/main/deep/tiny.pt", "Bearer secret"),
        ("/stored", None),
        ("/org/tiny/resolve/main/deep/config.json", "Bearer secret"),
    ]


def test_the_hub_needs_no_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    monkeypatch.delenv("HF_ENDPOINT")
    assert hub.file_request("a/b", "c d.pt") == ("https://huggingface.co/a/b/resolve/main/c%20d.pt", {})


@pytest.mark.parametrize(
    ("file", "content", "manner", "message"),
    [
        (File("tiny.th"), WEIGHTS, "cut", r"tiny\.th: 8000 bytes came, expected 8100: try again"),
        (File("tiny.th", "", 8001), WEIGHTS, "unannounced", "8000 bytes came, expected 8001: try again"),
        (File("tiny.th", "00000000"), WEIGHTS, "", f"has the SHA-256 {SHA256[:8]}, expected 00000000"),
    ],
)
def test_what_came_wrong_never_gets_its_final_name(
    machine: Path,
    importer: Importer,
    publish: Any,
    server: Server,
    file: File,
    content: bytes,
    manner: str,
    message: str,
) -> None:
    publish(server.origin(file))
    server.files["/tiny.th"] = content, manner
    with pytest.raises(CheckpointError, match=message) as caught:
        load("tiny-16khz")
    assert "\n" not in str(caught.value)
    assert files_below(machine) == set()
    assert importer.calls == []


def test_the_next_origin_is_tried(machine: Path, importer: Importer, publish: Any, server: Server) -> None:
    publish(server.origin(File("gone.th")), server.origin(File("tiny.th")))
    server.files["/tiny.th"] = WEIGHTS, ""
    load("tiny-16khz")
    assert [path for path, _ in server.asked] == ["/gone.th", "/tiny.th"]
    del server.files["/tiny.th"]
    publish(server.origin(File("gone.th")), name="other")
    with pytest.raises(
        TokenizerNotFoundError, match=rf"\({server.address}gone\.th: HTTP 404\): put gone\.th"
    ):
        load("other")


def test_what_is_whole_is_not_fetched_again(
    machine: Path, importer: Importer, publish: Any, server: Server
) -> None:
    publish(server.origin(File("one.th", SHA256), File("two.th", SHA256), File("three.th", SHA256)))
    write(machine / "cache/originals/tiny-16khz/one.th")
    write(machine / "cache/originals/tiny-16khz/two.th", b"damaged")
    server.files |= {"/two.th": (WEIGHTS, ""), "/three.th": (WEIGHTS, "")}
    load("tiny-16khz")
    assert [path for path, _ in server.asked] == ["/two.th", "/three.th"]


def test_a_cache_that_cannot_be_written(
    machine: Path, importer: Importer, publish: Any, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUDIOTOKENS_CACHE", str(write(machine / "file")))
    publish(server.origin(File("tiny.th")))
    server.files["/tiny.th"] = WEIGHTS, ""
    with pytest.raises(
        AudioTokensError, match=r"cannot write the cache .* let AUDIOTOKENS_CACHE name another"
    ):
        load("tiny-16khz")
    publish(Origin((File("tiny.th"),), address=server.address, elsewhere=("{torch}",)))
    write(machine / "torch/tiny.th")
    with pytest.raises(AudioTokensError, match="cannot write the cache"):
        load("tiny-16khz")


def test_an_import_that_fails_leaves_nothing(machine: Path, importer: Importer, publish: Any) -> None:
    publish(WEB)
    write(machine / "cache/originals/tiny-16khz/tiny-00.th")
    importer.error = CheckpointError("tensors do not fit")
    with pytest.raises(CheckpointError, match="tensors do not fit"):
        load("tiny-16khz")
    assert files_below(machine / "cache/tokenizers") == set()
    importer.error = None
    load("tiny-16khz")


def test_licences_that_forbid_commercial_use_are_told(
    machine: Path, importer: Importer, publish: Any
) -> None:
    publish(WEB, license="CC-BY-NC-4.0", noncommercial=True)
    write(machine / "cache/originals/tiny-16khz/tiny-00.th")
    with pytest.warns(UserWarning, match=r"tiny-16khz: .* CC-BY-NC-4\.0, forbids commercial use") as caught:
        load("tiny-16khz")
    assert len(caught) == 1


def test_without_torch_nothing_is_fetched(
    machine: Path, publish: Any, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    publish(server.origin(File("tiny.th")))
    with pytest.raises(MissingExtraError, match='Importing "tiny-16khz" needs the extra "torch"'):
        load("tiny-16khz")
    assert server.asked == []


RACE = """
import json, os, sys, time, types
from pathlib import Path
from audiotokens import originals, registry
from audiotokens.published import File, Origin, Published, published

CONFIG, folder = sys.argv[1], Path(sys.argv[2])

def run_import(architecture, weights, *, config, output, name, record):
    (folder / f"ready-{os.getpid()}").touch()
    end = time.monotonic() + 60
    while len(list(folder.glob("ready-*"))) < 2 and time.monotonic() < end:
        time.sleep(0.01)
    output.mkdir()
    (output / "config.json").write_text(CONFIG)

class Family:
    load = classmethod(lambda cls, folder, **options: folder)

engine = types.ModuleType("engine")
engine.__dict__.update(run_import=run_import, Family=Family)
sys.modules["engine"] = engine
registry.architectures["fake"] = "engine:Family"
originals._IMPORTER = "engine:run_import"
origin = Origin((File("tiny.th"),), address=sys.argv[3])
published["tiny"] = Published("tiny", "fake", "tiny", (origin,), "MIT", "2401.00001", "", 16000, ())
print(registry.load("tiny"))
"""


def test_two_processes_may_load_at_once(machine: Path, server: Server) -> None:
    server.files["/tiny.th"] = WEIGHTS, ""
    command = [sys.executable, "-c", RACE, json.dumps(CONFIG), str(machine), server.address]
    runs = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(2)]
    said = [run.communicate(timeout=120) for run in runs]
    assert [run.returncode for run in runs] == [0, 0], said
    assert {out.decode().strip() for out, _ in said} == {str(machine / "cache/tokenizers/tiny")}
    kept = {name for name in files_below(machine) if not name.startswith("ready-")}
    assert kept == {"cache/originals/tiny/tiny.th", "cache/tokenizers/tiny/config.json"}


def test_the_listing_tells_the_state(machine: Path, importer: Importer, publish: Any) -> None:
    publish(WEB)
    path = write(machine / "cache/originals/tiny-16khz/tiny-00.th")

    def found() -> registry.TokenizerRecord:
        return next(r for r in registry.list_tokenizers() if r.name == "tiny-16khz")

    assert (found().kind, found().state, found().origin) == ("published", "here", WEB.page)
    folder = load("tiny-16khz")
    assert (found().state, found().origin) == ("imported", str(folder))
    assert found().spec is not None
    (folder / "config.json").write_text("{")
    assert found().spec is None
    shutil.rmtree(folder)
    path.unlink()
    assert found().state == "not here"


@pytest.mark.parametrize("family", ["encodec", "dac", "snac", "mimi", "speechtokenizer", "wavtokenizer"])
def test_a_small_original_is_imported_from_the_hubs_cache(
    machine: Path, monkeypatch: pytest.MonkeyPatch, family: str
) -> None:
    pytest.importorskip("torch")
    from codec_goldens import copies

    from audiotokens.checkpoints import import_checkpoint

    if not copies(family) or family not in registry.architectures:
        pytest.skip("has no copy of a golden case")
    case = copies(family)[0]
    origin = Origin((File("weights.safetensors"),), File("config.json"), hub="org/small")
    name = next(record.name for record in published.values() if record.architecture == family)
    monkeypatch.setitem(published, name, replace(published[name], origins=(origin,)))
    root = snapshot(machine / "hf/hub", repository="org/small")
    weights = write(root / "weights.safetensors", (case.folder / "weights.safetensors").read_bytes())
    write(root / "config.json", json.dumps(case.arguments).encode())
    tokenizer = load(name)
    assert (tokenizer.spec.name, tokenizer.spec.weights_license) == (name, published[name].license)
    assert tokenizer.fingerprint == import_checkpoint(family, weights).fingerprint
    assert tokenizer.encode(case.waveform("short")[0], tokenizer.spec.sample_rate).num_samples > 0


def test_what_torch_saved_is_imported_as_the_records_variant(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch = pytest.importorskip("torch")
    from codec_goldens import copies

    from audiotokens.architectures import encodec

    case = next(case for case in copies("encodec") if case.folder.name == "causal_oddstrides")
    variant = encodec.EncodecCodec.reference.read_config(case.arguments)
    monkeypatch.setitem(encodec.VARIANTS, "small", variant)
    path = machine / "torch/hub/checkpoints/small.th"
    path.parent.mkdir(parents=True)
    torch.save(case.tensors, path)
    file = File("small.th", hashlib.sha256(path.read_bytes()).hexdigest()[:8])
    origin = Origin((file,), address="http://127.0.0.1:9/", elsewhere=("{torch}/hub/checkpoints",))
    record = replace(published["encodec-24khz"], name="small", variant="small", origins=(origin,))
    monkeypatch.setitem(published, "small", record)
    assert load("small").config == variant
    assert originals.state(record) == "imported"


def test_the_authors_files_of_lyra_load_by_name(
    machine: Path, monkeypatch: pytest.MonkeyPatch, shared: Path
) -> None:
    """Published files themselves: every byte is compared with the record's hashes."""
    pytest.importorskip("torch")
    monkeypatch.setenv("AUDIOTOKENS_LYRA", str(shared / "weights" / "lyra_v2"))
    tokenizer = load("lyra-v2")
    assert (tokenizer.spec.bitrate(), tokenizer.spec.weights_license) == (9200, "Apache-2.0")
    assert load("lyra-v2").fingerprint == tokenizer.fingerprint
    assert all(name.startswith("cache/tokenizers/lyra-v2/") for name in files_below(machine))

"""Names to tokenizers: shipped ones, entry points, published checkpoints, folders and the Hugging Face hub.

A tokenizer folder holds `config.json`, `model.safetensors` and `README.md`; nothing in it is executed or
unpickled.
Listing and reading facts import no torch; loading imports what the tokenizer needs.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from audiotokens import originals, plugins
from audiotokens.config import from_dict
from audiotokens.engines import Engine, has_graphs
from audiotokens.errors import (
    AudioTokensError,
    CheckpointError,
    ConfigError,
    MissingExtraError,
    NotOfferedError,
    TokenizerNotFoundError,
    one_line,
)
from audiotokens.hub import FOLDER_FILES, hub_folder
from audiotokens.published import Published, published
from audiotokens.spec import Spec

if TYPE_CHECKING:
    from audiotokens.tokenizer import Exactness, Tokenizer

FOLDER_FORMAT = "audiotokens"
FOLDER_VERSION = 1
SHIPPED = Path(__file__).parent / "weights"

architectures: dict[str, str] = {
    "gain-shape": "audiotokens.architectures.gain_shape:GainShapeCodec",
    "soundstream": "audiotokens.architectures.soundstream:SoundStreamCodec",
    "encodec": "audiotokens.architectures.encodec:EncodecCodec",
    "dac": "audiotokens.architectures.dac:DACCodec",
    "snac": "audiotokens.architectures.snac:SNACCodec",
    "mimi": "audiotokens.architectures.mimi:MimiCodec",
    "speechtokenizer": "audiotokens.architectures.speechtokenizer:SpeechTokenizerCodec",
    "vocos": "audiotokens.architectures.vocos:Vocos",
    "wavtokenizer": "audiotokens.architectures.wavtokenizer:WavTokenizerCodec",
}
"""Architecture name in config.json -> "module:attribute" of its codec class, imported when first loaded."""

_CONFIG_BYTES = 1 << 20


@dataclass(frozen=True)
class FolderConfig:
    """What `config.json` of a tokenizer folder says.

    Args:
        format: always "audiotokens".
        version: of the folder format.
        architecture: key of `architectures`.
        config: the architecture's own configuration, read strictly by its class.
        spec: facts about the tokenizer.
    """

    format: str
    version: int
    architecture: str
    config: dict[str, Any]
    spec: Spec


@dataclass(frozen=True)
class TokenizerRecord:
    """One tokenizer that `load` knows by name.

    Args:
        name: what to give to `load`.
        kind: where it comes from.
        origin: its folder, the distribution and object of its entry point, or the page of published files.
        spec: its facts; None for an entry point, whose package is imported only when it is loaded, and for a
            published checkpoint that was not imported yet.
        published: the record of a published checkpoint.
        state: whether a published checkpoint was imported, or else whether its files are on this machine.
    """

    name: str
    kind: Literal["shipped", "entry point", "published"]
    origin: str
    spec: Spec | None = None
    published: Published | None = None
    state: originals.State | None = None


def load(
    name_or_folder: str | os.PathLike[str],
    *,
    exact: Exactness = True,
    device: str = "cpu",
    search_width: int = 1,
    engine: Engine = "auto",
    cache_dir: str | os.PathLike[str] | None = None,
) -> Tokenizer:
    """Load a tokenizer.

    Args:
        name_or_folder: a shipped name, the name of another package's entry point or of a published
            checkpoint, a folder, or "hf:organisation/name[@revision]"; a folder may also be that of a codec
            of transformers. A name wins over a folder: write "./name" for that. Published checkpoints are
            imported on first use, from files on this machine or from the network; AUDIOTOKENS_OFFLINE=1
            keeps away from the latter.
        exact: True: codes and samples that do not depend on batch, chunks or threads; "float64": codes are
            also those of other machines; see `tokenizer.Exactness`.
        device: torch device, such as "cpu" or "cuda".
        search_width: candidates that the encoder keeps through residual books (beam search): better sound
            at the same bitrate, slower. Only with 1 (greedy) do codes of many books begin with those of few.
        engine: "torch", or "onnx" for the graphs that the folder holds (ONNX Runtime, CPU, no torch); "auto"
            takes torch if it is installed, and else the graphs.
        cache_dir: cache folder for "hf:" and published names; default: huggingface_hub's own for the former,
            `audiotokens.cache.cache_folder()` for the latter.

    Raises:
        TokenizerNotFoundError: nothing of that name, its package cannot be imported, or its files are not to
            be had.
        ConfigError: the folder's config.json has an unknown, missing or ill-typed key.
        CheckpointError: the folder is damaged.
        MissingExtraError: an optional dependency is not installed.
        NotOfferedError: no such device, no such search, or no graphs for that engine.

    Example:
        >>> tokenizer = load("speech-16k")  # doctest: +SKIP
    """
    name = os.fspath(name_or_folder)
    folder: Path | None = None
    if name.startswith("hf:"):
        folder = hub_folder(name, cache_dir=cache_dir)
    elif isinstance(name_or_folder, str):
        folder = shipped().get(name)
        points = [] if folder else plugins.entry_points(name)
        if points:
            _only_defaults(f'"{name}" is of another package', search_width, engine)
            return plugins.load_entry_point(points, device)
        if folder is None and name in published:
            folder = originals.tokenizer_folder(published[name], cache_dir)
    if folder is None and Path(name).is_dir():
        folder = Path(name)
    if folder is None:
        raise _not_found(name)
    return load_folder(folder, exact=exact, device=device, search_width=search_width, engine=engine)


def list_tokenizers() -> list[TokenizerRecord]:
    """Return every tokenizer known by name: shipped, of other packages, published.

    Neither torch nor another package is imported, and no file of a published checkpoint is opened.

    Example:
        >>> [record.name for record in list_tokenizers()]  # doctest: +SKIP
        ['speech-16k']
    """
    own = shipped()
    records = [
        TokenizerRecord(name, "shipped", str(folder), read_folder_config(folder).spec)
        for name, folder in own.items()
    ]
    for point in plugins.entry_points():
        hidden = "; hidden by the shipped one" if point.name in own else ""
        records.append(TokenizerRecord(point.name, "entry point", f"{plugins.origin(point)}{hidden}"))
    taken = {record.name for record in records}
    return records + [_published_record(record) for name, record in published.items() if name not in taken]


def _published_record(record: Published) -> TokenizerRecord:
    folder = originals.imported_folder(record)
    spec = None
    if folder:
        with contextlib.suppress(AudioTokensError):  # Damage is told by whoever loads it.
            spec = read_folder_config(folder).spec
    origin = str(folder) if folder else record.origins[0].page
    return TokenizerRecord(record.name, "published", origin, spec, record, originals.state(record))


def shipped() -> dict[str, Path]:
    """Return the folders of the tokenizers that come with the package, by name."""
    if not SHIPPED.is_dir():
        return {}
    return {path.name: path for path in sorted(SHIPPED.iterdir()) if (path / "config.json").is_file()}


def known_names() -> list[str]:
    """Return the names that `load` knows, without reading or importing any of them."""
    points = (point.name for point in plugins.entry_points())
    return list(dict.fromkeys((*shipped(), *points, *published)))


def load_folder(
    folder: str | os.PathLike[str],
    *,
    exact: Exactness = True,
    device: str = "cpu",
    search_width: int = 1,
    engine: Engine = "auto",
) -> Tokenizer:
    """Load the tokenizer in a folder; see `load`.

    Raises:
        TokenizerNotFoundError: not a tokenizer folder.
        ConfigError: config.json has an unknown, missing or ill-typed key, or an unknown architecture.
        CheckpointError: the folder is damaged.
        MissingExtraError: neither torch nor ONNX Runtime can run it here.
        NotOfferedError: no such device on this machine, no such search, or no graphs for that engine.
    """
    path = Path(folder)
    if engine not in get_args(Engine):
        raise NotOfferedError(f'there is no engine "{engine}": expected one of {", ".join(get_args(Engine))}')
    if model_type(path):
        return _load_adapter(path, device=device, search_width=search_width, engine=engine)
    architecture = read_folder_config(path).architecture
    if engine == "onnx":
        return _load_graphs(path, exact=exact, device=device, search_width=search_width)
    module, _, attribute = architectures[architecture].partition(":")
    try:
        codec = _imported(module, attribute, f'The architecture "{architecture}"')
    except MissingExtraError:
        if engine == "torch" or not has_graphs(path) or device != "cpu" or search_width != 1:
            raise
        try:
            return _load_graphs(path, exact=exact, device=device, search_width=search_width)
        except MissingExtraError:
            raise MissingExtraError(f'"{folder}"', "onnx", alternative="torch") from None
    _check_device(device)
    tokenizer: Tokenizer = codec.load(path, exact=exact, device=device, search_width=search_width)
    return tokenizer


def _load_graphs(folder: Path, *, exact: Exactness, device: str, search_width: int) -> Tokenizer:
    if not has_graphs(folder):
        raise NotOfferedError(f'"{folder}" holds no exported graphs (graphs.json): use the engine "torch"')
    if device != "cpu" or search_width != 1:
        found = f'the device "{device}"' if device != "cpu" else f"a search width of {search_width}"
        raise NotOfferedError(f'{found} is for the engine "torch"; the graphs run on the CPU, greedily')
    if isinstance(exact, str):
        raise NotOfferedError(f'exact="{exact}" is for the engine "torch"; the graphs run in float32')
    if read_folder_config(folder).spec.streams:
        from audiotokens.engines.onnx import OnnxTokenizer

        return OnnxTokenizer.load(folder, exact=exact)
    from audiotokens.engines.vocoder import OnnxVocoder

    return OnnxVocoder.load(folder, exact=exact)


def model_type(folder: Path) -> str:
    """Kind of the model of transformers whose folder this is; empty for tokenizer folders and all others."""
    path = folder / "config.json"
    values = _read_json(path) if path.is_file() else None
    if not isinstance(values, dict) or "format" in values:
        return ""
    found = values.get("model_type")
    return found if isinstance(found, str) else ""


def _only_defaults(what: str, search_width: int, engine: Engine) -> None:
    for name, given in (("search_width", search_width != 1), ("engine", engine == "onnx")):
        if given:
            raise NotOfferedError(f"{what}: leave {name} out")


def _load_adapter(folder: Path, *, device: str, search_width: int, engine: Engine) -> Tokenizer:
    _only_defaults(f'"{folder}" is a model of transformers', search_width, engine)
    adapter = _imported("audiotokens.adapters.transformers_models", "load", "A model of transformers")
    _check_device(device)
    tokenizer: Tokenizer = adapter(folder, device=device)
    return tokenizer


def _imported(module: str, attribute: str, purpose: str) -> Any:
    try:
        return getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "torch":
            raise MissingExtraError(purpose, "torch") from None
        raise


def read_folder_config(folder: str | os.PathLike[str]) -> FolderConfig:
    """Read and check `config.json` of a tokenizer folder, without torch and without touching the weights.

    Raises:
        TokenizerNotFoundError: no such folder, or no config.json in it.
        ConfigError: an unknown, missing or ill-typed key, format, version or architecture.
        CheckpointError: config.json is not JSON, or larger than 1 MiB.
    """
    path = Path(folder) / "config.json"
    if not path.is_file():
        found = "has no config.json" if path.parent.is_dir() else "does not exist"
        raise TokenizerNotFoundError(
            f'folder "{folder}" {found}: expected a tokenizer folder with {", ".join(FOLDER_FILES)}'
        )
    values = _read_json(path)
    where = str(path)
    if not isinstance(values, dict):
        raise ConfigError(f"{where}: found a {type(values).__name__}, expected a mapping of keys to values")
    if values.get("format") != FOLDER_FORMAT:
        raise ConfigError(f'{where}: format is {values.get("format")!r}, expected "{FOLDER_FORMAT}"')
    if values.get("version") != FOLDER_VERSION:
        raise ConfigError(
            f"{where}: version is {values.get('version')!r}, this release reads {FOLDER_VERSION}: update"
        )
    config = from_dict(FolderConfig, values, where=where)
    if config.architecture not in architectures:
        known = ", ".join(architectures)
        raise ConfigError(f'{where}: unknown architecture "{config.architecture}"; known: {known}')
    _check_spec(config.spec, f"{where}.spec")
    return config


def _check_device(device: str) -> None:
    if device == "cpu":
        return
    import torch

    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError):
        raise NotOfferedError(
            f'the device "{device}" is not available here: expected "cpu", or "cuda" on a machine with a GPU'
        ) from None


def _not_found(name: str) -> TokenizerNotFoundError:
    names = known_names()
    near = difflib.get_close_matches(name, names, n=1)
    own = ", ".join(known for known in names if known not in published)
    hint = f'did you mean "{near[0]}"?' if near else f"known names: {own or 'none'} and published ones;"
    return TokenizerNotFoundError(
        f'no tokenizer and no folder is called "{name}"; {hint} "audiotokens list" shows all names'
    )


def _read_json(path: Path) -> object:
    with path.open("rb") as file:
        content = file.read(_CONFIG_BYTES + 1)
    if len(content) > _CONFIG_BYTES:
        raise CheckpointError(f"{path}: larger than 1 MiB, expected a small JSON file")
    try:
        values: object = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: not valid JSON ({one_line(error)}): fetch the folder again") from None
    return values


def _check_spec(spec: Spec, where: str) -> None:
    for problem in _spec_problems(spec):
        raise ConfigError(f"{where}: {problem}")


def _spec_problems(spec: Spec) -> Iterator[str]:
    if min(spec.sample_rate, spec.output_sample_rate, spec.channels) < 1:
        yield "sample rates and channels must be at least 1"
    if not spec.streams:
        if spec.features is None or spec.features.size < 1 or spec.features.frame_rate <= 0:
            yield "found no streams and no features, expected at least one stream"
        if spec.legal_prefixes:
            yield f"legal_prefixes are {list(spec.legal_prefixes)}, expected none without streams"
        return
    for stream in spec.streams:
        if not stream.codebook_sizes or min(stream.codebook_sizes) < 1 or stream.frame_rate < 0:
            yield f'stream "{stream.name}" needs books of at least 1 entry and a frame rate of at least 0'
    books = spec.num_codebooks
    if not spec.legal_prefixes or not all(1 <= prefix <= books for prefix in spec.legal_prefixes):
        yield f"legal_prefixes are {list(spec.legal_prefixes)}, expected values from 1 to {books}"

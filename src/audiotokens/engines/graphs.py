"""`graphs.json`: which ONNX graphs a tokenizer folder holds, and the facts needed to run them.

One side of a tokenizer, encoder or decoder, is an `offline` graph for inputs of any length, and three graphs
that are steps of a stream: `first` takes a fixed size, `middle` any whole number of its size and the states,
`last` what is left. The weights are in the folder's other files, so nothing is stored twice.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from audiotokens.config import from_dict
from audiotokens.errors import CheckpointError, ConfigError, one_line
from audiotokens.spec import Spec

GRAPHS_FILE = "graphs.json"
GRAPHS_FORMAT = "audiotokens-graphs"
GRAPHS_VERSION = 1
_MOST_BYTES = 1 << 20


@dataclass(frozen=True)
class Graph:
    """One graph.

    Args:
        file: its name in the folder.
        size: frames or samples that a step takes; 0: any number.
        gives: frames or samples that come out for them; 0: it depends.
    """

    file: str
    size: int = 0
    gives: int = 0


@dataclass(frozen=True)
class StateTensor:
    """A tensor that one step hands to the next.

    Args:
        name: of the graph's input; "state.0" takes what the step before gave as "next.0".
        shape: of steady streams.
        type: as numpy calls it.
    """

    name: str
    shape: tuple[int, ...]
    type: Literal["float32", "float64", "int32", "int64", "bool"]


@dataclass(frozen=True)
class Side:
    """The graphs of an encoder or of a decoder.

    Args:
        offline: for inputs of any length.
        first: the first step of a stream.
        middle: all further steps.
        last: what is left at the end.
        states: what the steps hand on.
        by_codebooks: instead of all that, where the net depends on the number of books: a side for each.
    """

    offline: Graph | None = None
    first: Graph | None = None
    middle: Graph | None = None
    last: Graph | None = None
    states: tuple[StateTensor, ...] = ()
    by_codebooks: dict[str, Side] | None = None

    def graphs(self) -> Iterator[Graph]:
        """All graphs of this side."""
        yield from (graph for graph in (self.offline, self.first, self.middle, self.last) if graph)
        for side in (self.by_codebooks or {}).values():
            yield from side.graphs()


@dataclass(frozen=True)
class QuantizerGraphs:
    """Latents to codes with all books (None for what only decodes), and codes back to latents."""

    encode: Graph | None
    decode: Graph


@dataclass(frozen=True)
class Graphs:
    """What `graphs.json` says.

    Args:
        format: always "audiotokens-graphs".
        version: of the format.
        opset: of ONNX.
        fingerprint: of the tokenizer that was exported.
        hop: samples of one frame of the slowest stream.
        latent: dimensions D of the latents.
        frames_per_hop: latent frames in a hop.
        external: files that hold the tensors of the graphs.
        encoder: None for what only decodes.
        decoder: None for what only encodes.
        quantizer: None for what has no codes.
    """

    format: str
    version: int
    opset: int
    fingerprint: str
    hop: int
    latent: int
    frames_per_hop: int = 1
    external: tuple[str, ...] = ()
    encoder: Side | None = None
    decoder: Side | None = None
    quantizer: QuantizerGraphs | None = None

    def files(self) -> set[str]:
        """Names of all files that the graphs need."""
        graphs = [graph for side in (self.encoder, self.decoder) if side for graph in side.graphs()]
        found = [self.quantizer.encode, self.quantizer.decode] if self.quantizer else []
        graphs += [graph for graph in found if graph]
        return {*(graph.file for graph in graphs), *self.external}


def has_graphs(folder: Path) -> bool:
    """Whether a tokenizer folder holds exported graphs."""
    return (folder / GRAPHS_FILE).is_file()


def read_graphs(folder: Path) -> Graphs:
    """Read and check `graphs.json`; the graphs themselves are not opened.

    Raises:
        CheckpointError: it is damaged, of another version or kind, or names files that are not in the folder.
    """
    path = folder / GRAPHS_FILE
    try:
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
        values = json.loads(content) if len(content) <= _MOST_BYTES else None
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} cannot be read ({one_line(error)}): export again") from None
    if not isinstance(values, dict) or values.get("format") != GRAPHS_FORMAT:
        raise CheckpointError(f'{path} is not of the format "{GRAPHS_FORMAT}": export again')
    if values.get("version") != GRAPHS_VERSION:
        found = values.get("version")
        raise CheckpointError(f"{path}: version is {found!r}, this release reads {GRAPHS_VERSION}: update")
    try:
        graphs = from_dict(Graphs, values, where=str(path))
    except (ConfigError, RecursionError) as error:
        raise CheckpointError(f"{one_line(error)}: export again") from None
    for problem in _problems(graphs, folder):
        raise CheckpointError(f"{path}: {problem}: export again")
    return graphs


def read_exported(folder: Path) -> tuple[Spec, Graphs]:
    """Read the facts of an exported folder, and check that its graphs were made for its weights.

    Raises:
        TokenizerNotFoundError: not a tokenizer folder.
        ConfigError: config.json has an unknown, missing or ill-typed key.
        CheckpointError: graphs.json or what it names is missing, damaged, or was made for other weights.
    """
    from audiotokens.registry import read_folder_config

    config = read_folder_config(folder)
    graphs = read_graphs(folder)
    if graphs.fingerprint != stored_fingerprint(folder, config.architecture, config.config):
        raise CheckpointError(f"{folder}: graphs.json was made for other weights: export again")
    return config.spec, graphs


def _problems(graphs: Graphs, folder: Path) -> Iterator[str]:
    for name in sorted(graphs.files()):
        # Only plain names: what a folder from anyone says must not lead out of it.
        if name != Path(name).name or "\\" in name or name in ("", ".", ".."):
            yield f'found the file name "{name}", expected the name of a file in the folder'
        elif not (folder / name).is_file():
            yield f'the file "{name}" is missing'
    if min(graphs.hop, graphs.latent, graphs.frames_per_hop) < 1:
        yield "hop, latent and frames_per_hop must be at least 1"
    if graphs.encoder:
        yield from _side_problems(graphs.encoder, "encoder", graphs.hop, graphs.frames_per_hop)
    if graphs.decoder:
        yield from _side_problems(graphs.decoder, "decoder", graphs.frames_per_hop, 1)


def _side_problems(side: Side, name: str, taken: int, given: int) -> Iterator[str]:
    """What is wrong with a side whose steps take multiples of `taken` and give multiples of `given`."""
    if side.by_codebooks:
        for books, each in side.by_codebooks.items():
            yield from _side_problems(each, f"{name}.by_codebooks.{books}", taken, given)
        return
    if side.offline is None:
        yield f'{name}: the graph "offline" is missing'
    steps = [graph for graph in (side.first, side.middle, side.last) if graph]
    if len(steps) not in (0, 3):
        yield f"{name}: found {len(steps)} graphs for streams, expected first, middle and last, or none"
    for graph in (side.first, side.middle):
        if graph and (graph.size < 1 or graph.size % taken or graph.gives < 1 or graph.gives % given):
            yield (
                f'{name}: "{graph.file}" takes {graph.size} and gives {graph.gives}, expected multiples of '
                f"{taken} and {given}"
            )
    if any(min(state.shape, default=1) < 0 for state in side.states):
        yield f"{name}: a state has a negative size"


def stored_fingerprint(folder: Path, architecture: str, config: object) -> str:
    """SHA-256 over architecture, configuration and weights as they lie in the folder, in hexadecimal.

    Raises:
        CheckpointError: the weights cannot be read.
    """
    from safetensors import SafetensorError, safe_open

    path = folder / "model.safetensors"
    digest = hashlib.sha256(architecture.encode())
    digest.update(json.dumps(config, sort_keys=True).encode())
    try:
        with safe_open(path, framework="numpy") as file:
            for name in sorted(file.keys()):
                digest.update(name.encode())
                digest.update(np.ascontiguousarray(file.get_tensor(name)).data)
    except (OSError, SafetensorError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path} cannot be read ({one_line(error)}); get the folder again") from None
    return digest.hexdigest()

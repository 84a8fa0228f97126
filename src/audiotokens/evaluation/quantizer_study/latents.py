"""Latents of a frozen encoder that the quantizers of the study learn from and are measured on.

Two kinds: "latent", what the tokenizer's own quantizer gets; and "trunk", what its encoder has before the
last projection, standardised and turned to its first 128 principal axes, for claims about high dimensions.
Both are centred and scaled by one number, so that the mean variance of a dimension is 1 and a squared error
of 1 is what the mean alone gives.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import torch

from audiotokens.audio import read_audio
from audiotokens.codec import Codec
from audiotokens.config import from_dict, to_dict
from audiotokens.errors import AudioError
from audiotokens.evaluation.files import AudioFile, find_files
from audiotokens.nn.block import Sequential

Features: TypeAlias = Literal["latent", "trunk"]

TRUNK_DIM = 128
_SPLITS = ("train", "test")
_KINDS: tuple[Features, ...] = ("latent", "trunk")


@dataclass(frozen=True)
class Clips:
    """The recordings of the test split, in the order of their frames.

    Args:
        files: paths.
        speakers: who speaks in each; intervals resample these.
        frames: of each.
    """

    files: tuple[str, ...]
    speakers: tuple[str, ...]
    frames: tuple[int, ...]

    def slices(self) -> list[slice]:
        """The frames of each file among all."""
        ends = np.cumsum(self.frames)
        return [slice(int(end) - count, int(end)) for end, count in zip(ends, self.frames)]


@dataclass(frozen=True)
class About:
    """What a folder of latents was made of.

    Args:
        source: digest of files, tokenizer and limits; others are made again.
        tokenizer: its name.
        frame_rate: frames per second.
        test: clips.
        train_frames: frames of the train split.
        train_speakers: who speaks in them.
        scale: of each kind, what it was divided by.
        kept: share of the variance of the trunk that its principal axes keep.
    """

    source: str
    tokenizer: str
    frame_rate: float
    test: Clips
    train_frames: int
    train_speakers: int
    scale: dict[str, float]
    kept: float


@dataclass(frozen=True)
class LatentSet:
    """Latents of one kind.

    Args:
        train: float32 `[N, D]`.
        test: float32 `[M, D]`.
        mean: `[D]`, which was taken off.
        scale: what was divided by then.
        about: where they come from.
    """

    train: np.ndarray
    test: np.ndarray
    mean: np.ndarray
    scale: float
    about: About

    @property
    def dim(self) -> int:
        """Dimensions D."""
        return int(self.train.shape[1])

    def restored(self, rows: np.ndarray) -> np.ndarray:
        """Rows `[T, D]` as the frozen decoder expects them, `[D, T]`."""
        return np.ascontiguousarray((rows * self.scale + self.mean).T, np.float32)


def load_latents(folder: Path, kind: Features) -> LatentSet:
    """Read latents that `make_latents` wrote; the arrays stay on disk until they are used."""
    about = from_dict(About, json.loads((folder / "about.json").read_text(encoding="utf-8")))
    train, test, mean = (np.load(folder / f"{kind}-{part}.npy", mmap_mode="r") for part in (*_SPLITS, "mean"))
    return LatentSet(train, test, mean, about.scale[kind], about)


def make_latents(
    codec: Codec,
    data: Path,
    folder: Path,
    *,
    max_frames: int,
    domain: str = "speech",
    progress: Callable[[str], None] | None = None,
) -> About:
    """Encode the train and the test split, unless `folder` holds what would be made.

    Args:
        codec: whose encoder is used; its last layer is the projection that "trunk" leaves out.
        data: folder with the subfolders "train" and "test".
        folder: to write to.
        max_frames: of each split; files are taken in the order of the hash of their names.
        domain: of the files that are taken; files whose domain nobody knows are taken too.
        progress: called with a line from time to time.

    Raises:
        AudioError: a split is missing, or has no audio of that domain.
    """
    files = {split: _files(data, split, domain) for split in _SPLITS}
    source = _digest(codec, files, max_frames)
    about = folder / "about.json"
    if about.is_file():
        known = from_dict(About, json.loads(about.read_text(encoding="utf-8")))
        if known.source == source:
            return known
    folder.mkdir(parents=True, exist_ok=True)
    made = {split: _encoded(codec, files[split], max_frames, progress) for split in _SPLITS}
    kept = {split: files[split][: len(made[split]["latent"])] for split in _SPLITS}
    train = {kind: np.concatenate(made["train"][kind]) for kind in _KINDS}
    test = {kind: np.concatenate(made["test"][kind]) for kind in _KINDS}
    train["trunk"], test["trunk"], share = _principal(train["trunk"], test["trunk"])
    scales: dict[str, float] = {}
    for kind in _KINDS:
        mean = train[kind].mean(0)
        scales[kind] = float(np.sqrt(train[kind].var(0).mean()))
        np.save(folder / f"{kind}-mean.npy", mean)
        for split, rows in (("train", train[kind]), ("test", test[kind])):
            np.save(folder / f"{kind}-{split}.npy", ((rows - mean) / scales[kind]).astype(np.float32))
    clips = Clips(
        tuple(str(file.path) for file in kept["test"]),
        tuple(file.speaker for file in kept["test"]),
        tuple(map(len, made["test"]["latent"])),
    )
    found = About(
        source,
        codec.spec.name,
        float(codec.spec.frame_rate),
        clips,
        len(train["latent"]),
        len({file.speaker for file in kept["train"]}),
        scales,
        share,
    )
    about.write_text(json.dumps(to_dict(found)) + "\n", encoding="utf-8")
    return found


def _files(data: Path, split: str, domain: str) -> list[AudioFile]:
    if not (data / split).is_dir():
        raise AudioError(
            f"{data} has no folder {split}, expected audio in {data / 'train'} and {data / 'test'}"
        )
    files = [file for file in find_files(data / split) if file.domain in (domain, "unknown")]
    if not files:
        raise AudioError(f"found no {domain} in {data / split}: the study needs some in both splits")
    return sorted(files, key=lambda file: hashlib.sha256(file.path.name.encode()).digest())


def _digest(codec: Codec, files: dict[str, list[AudioFile]], max_frames: int) -> str:
    content: dict[str, Any] = {"codec": codec.fingerprint, "max_frames": max_frames, "version": 1}
    for split, found in files.items():
        content[split] = [(str(file.path), file.speaker, file.path.stat().st_size) for file in found]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


@torch.inference_mode()
def _encoded(
    codec: Codec, files: Sequence[AudioFile], max_frames: int, progress: Callable[[str], None] | None
) -> dict[Features, list[np.ndarray]]:
    """Latents `[T, D]` of both kinds, file by file."""
    blocks = list(codec.encoder_net)
    trunk, last = Sequential(*blocks[:-1]), blocks[-1]
    parts: dict[Features, list[np.ndarray]] = {"latent": [], "trunk": []}
    frames = 0
    for count, file in enumerate(files):
        if frames >= max_frames:
            break
        waveform, _ = codec.prepare(*read_audio(file.path))
        features = trunk(torch.from_numpy(waveform)[None].to(codec.sample.dtype))
        parts["trunk"].append(features[0].T.float().numpy())
        parts["latent"].append(last(features)[0].T.float().numpy())
        frames += features.shape[2]
        if progress and count % 100 == 0:
            progress(f"latents: {count} of {len(files)} files, {frames} frames")
    return parts


def _principal(train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Both, standardised and on the first principal axes of the first; and the share of variance kept."""
    mean, spread = train.mean(0), train.std(0).clip(1e-6)
    values, axes = np.linalg.eigh(np.cov(((train - mean) / spread).T.astype(np.float64)))
    chosen = axes[:, ::-1][:, :TRUNK_DIM].astype(np.float32)
    share = float(values[::-1][:TRUNK_DIM].sum() / values.sum())
    return ((train - mean) / spread) @ chosen, ((test - mean) / spread) @ chosen, share

"""A packed file of synthetic sound and a recipe of a tiny codec."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from audiotokens.training.config import Recipe
from audiotokens.training.data import HEAD, MAGIC, PackedAudio, open_pack


def write_pack(path: Path, files: list[np.ndarray], sample_rate: int = 16000) -> PackedAudio:
    """Write a packed file by the layout in the module's text, without the module's writer."""
    samples = np.concatenate(files).astype("<i2").tobytes()
    index = [[f"file{number}.wav", len(file)] for number, file in enumerate(files)]
    digest = hashlib.sha256(samples).hexdigest()
    header = json.dumps({"sample_rate": sample_rate, "sha256": digest, "files": index}).encode()
    place = HEAD.size + len(samples)
    head = HEAD.pack(MAGIC, place, len(header), hashlib.sha256(header).digest())
    path.write_bytes(head + samples + header)
    return open_pack(path)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Let torch use one thread, as bit-exact resuming needs."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def pack_file(tmp_path: Path) -> PackedAudio:
    random = np.random.default_rng(0)
    tones = [np.sin(np.arange(length) * step) for length, step in ((9000, 0.05), (14000, 0.09), (700, 0.2))]
    return write_pack(
        tmp_path / "data.pack", [8000 * tone + 300 * random.standard_normal(len(tone)) for tone in tones]
    )


TINY_CODEC = {
    "hop": 80,
    "bands": 8,
    "width": 16,
    "kernel": 3,
    "encoder_blocks": 1,
    "encoder_hidden": 24,
    "encoder_lookahead": 1,
    "decoder_blocks": 1,
    "decoder_hidden": 24,
    "decoder_lookahead": 1,
    "latent": 6,
    "quantizer": {"kind": "rvq", "num_codebooks": 4, "inner": {"kind": "vector", "codebook_size": 16}},
}


@pytest.fixture
def recipe() -> Recipe:
    from audiotokens.config import from_dict

    values = {
        "name": "tiny",
        "codec": TINY_CODEC,
        "log_every": 2,
        "checkpoint_every": 5,
        "data": {"batch_size": 2, "crop_samples": 1600},
        "loss": {"loudness_start": 2, "loudness_full": 4},
        "schedule": {"steps": 12, "warmup": 2, "unquantized": 6, "start_latents": 3},
    }
    return from_dict(Recipe, values)

"""Graphs of every kind of quantizer that has a rule; `export_onnx` itself compares codes and latents too."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from audiotokens.architectures import gain_shape
from audiotokens.export import export_onnx
from audiotokens.quantizers import (
    FSQConfig,
    GroupedConfig,
    ProjectedConfig,
    QuantizerConfig,
    RVQConfig,
    ScalarConfig,
    SplitConfig,
    VectorConfig,
)

BOOK = VectorConfig(codebook_size=16)
RVQ = RVQConfig(num_codebooks=3, inner=BOOK)
KINDS: dict[str, QuantizerConfig] = {
    "vector": BOOK,
    "projected book": VectorConfig(codebook_size=16, codebook_dim=3),
    "cosine": VectorConfig(codebook_size=16, codebook_dim=3, metric="cosine"),
    "sphere": VectorConfig(codebook_size=16, metric="sphere"),
    "shared": replace(RVQ, shared=True),
    "scales and offsets": replace(RVQ, scales=(1.0, 0.5, 0.25), prefix_offsets=True),
    "grouped": GroupedConfig(groups=2, inner=RVQ),
    "grouped, shared": GroupedConfig(groups=2, inner=RVQ, shared=True),
    "nested groups": GroupedConfig(groups=3, inner=BOOK, nested_dropout=True),
    "projected": ProjectedConfig(inner=RVQ, inner_dim=3),
    "split": SplitConfig(semantic=BOOK, acoustic=RVQ),
    "finite scalars": FSQConfig(levels=(8, 5, 5)),
    "symmetric scalars": FSQConfig(levels=(8, 5), bound="symmetric"),
    "clamped scalars": FSQConfig(levels=(8, 5), bound="clamp"),
    "scalar": ScalarConfig(steps=3, dims_per_codebook=2),
    "residual scalars": RVQConfig(num_codebooks=2, inner=FSQConfig(levels=(5, 5)), gradient="chain"),
}


def codec_of(quantizer: QuantizerConfig) -> gain_shape.GainShapeCodec:
    torch.manual_seed(0)
    small = replace(gain_shape.VARIANTS["tiny"], width=4, encoder_blocks=0, decoder_blocks=0)
    codec = gain_shape.GainShapeCodec(replace(small, quantizer=quantizer)).eval()
    codec.weight_bits = 32
    for name, parameter in codec.quantizer.named_parameters():
        if name == "offsets":
            torch.nn.init.normal_(parameter)
    return codec


def search(folder: Path, latents: np.ndarray) -> np.ndarray:
    path = str(folder / "quantizer.encode.onnx")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    found: np.ndarray = session.run(None, {"latents": latents})[0]
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_codes_of_latents_between_entries(kind: str, tmp_path: Path) -> None:
    codec = codec_of(KINDS[kind])
    export_onnx(codec, tmp_path, streaming=False)
    latents = torch.randn(1, codec.quantizer.dim, 50, generator=torch.Generator().manual_seed(3))
    wanted = codec.quantizer.encode(latents)
    np.testing.assert_array_equal(search(tmp_path, latents.numpy()), wanted.numpy())


@pytest.mark.parametrize("metric", ["euclidean", "cosine", "sphere"])
def test_of_equal_entries_the_first_is_taken(metric: str, tmp_path: Path) -> None:
    codec = codec_of(VectorConfig(codebook_size=16, metric=metric))  # type: ignore[arg-type]
    with torch.no_grad():
        book = codec.quantizer.book
        book[9], book[4] = book[2], 0.0
    export_onnx(codec, tmp_path, streaming=False)
    latents = torch.stack([codec.quantizer.book[9], torch.zeros(codec.quantizer.dim)], 1)[None]
    wanted = codec.quantizer.encode(latents).numpy()
    assert wanted[0, 0, 0] == 2
    np.testing.assert_array_equal(search(tmp_path, latents.numpy()), wanted)

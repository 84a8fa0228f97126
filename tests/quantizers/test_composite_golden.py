"""Projected and grouped quantizers against stored results of vector-quantize-pytorch 1.32.0."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from audiotokens.quantizers import (
    EMALearning,
    GroupedConfig,
    LFQConfig,
    ProjectedConfig,
    Quantizer,
    QuantizerConfig,
    ResidualFSQConfig,
    ResidualLFQConfig,
    RVQConfig,
    VectorConfig,
    VectorQuantizer,
    build_quantizer,
)

FOLDER = Path(__file__).parent.parent / "golden" / "vqp"
EMA = EMALearning(decay=0.8, smoothing=1e-5, expire_below=0.0)
HEADS = VectorConfig(codebook_size=32, learning=EMA, commitment=1.0)


def residual(commitment: float) -> RVQConfig:
    book = VectorConfig(codebook_size=16, learning=EMA, commitment=commitment, gradient="rotation")
    return RVQConfig(num_codebooks=3, inner=book, gradient="levels", commitment=0.0)


# Losses are added over the groups there, averaged here: twice the weight for two groups.
CASES: dict[str, QuantizerConfig] = {
    "vq_heads_separate": GroupedConfig(inner=HEADS, groups=2),
    "vq_heads_shared": GroupedConfig(inner=HEADS, groups=2, shared=True),
    "residual_vq_projection": ProjectedConfig(inner=residual(1.0), inner_dim=8),
    "grouped_residual_vq": GroupedConfig(inner=residual(2.0), groups=2),
    "grouped_residual_fsq": GroupedConfig(
        inner=ResidualFSQConfig(levels=(8, 5, 5), num_codebooks=2, gradient="levels"), groups=2
    ),
    "grouped_residual_lfq": GroupedConfig(
        inner=ResidualLFQConfig(
            inner=LFQConfig(bits=4, commitment=0.0, entropy=0.2, floor=1e-5),
            num_codebooks=2,
            gradient="levels",
        ),
        groups=2,
    ),
}
each_case = pytest.mark.parametrize("name", CASES)


def stored(name: str, array: str) -> Tensor:
    """An array with latents as `[B, D, T]`, codes as int64 `[B, K, T]`."""
    tensor = torch.from_numpy(np.load(FOLDER / name / f"{array}.npy"))
    if array.endswith(".indices"):
        if tensor.dim() == 4:
            # Groups, batch, frames, levels.
            tensor = tensor.permute(1, 2, 3, 0).flatten(2)
        return tensor.long().mT
    # With one book for all heads they return the heads apart.
    return tensor.flatten(2).mT if tensor.dim() >= 3 else tensor


def books(name: str, quantizer: Quantizer) -> dict[tuple[str, int], VectorQuantizer]:
    """The books by their key there and the place of the head."""
    found: dict[tuple[str, int], VectorQuantizer] = {}
    for path, module in quantizer.named_modules():
        numbers = [int(part) for part in path.split(".") if part.isdigit()]
        if isinstance(module, VectorQuantizer) and name.startswith("vq_heads"):
            found["_codebook", numbers[0]] = module
        elif isinstance(module, VectorQuantizer):
            groups = f"rvqs.{numbers[0]}." if len(numbers) == 2 else ""
            found[f"{groups}layers.{numbers[-1]}._codebook", 0] = module
    return found


def prepared(name: str) -> Quantizer:
    quantizer = build_quantizer(CASES[name], 16)
    weights = load_file(FOLDER / name / "weights.safetensors")
    maps = {key.replace("rvqs", "inner"): value for key, value in weights.items() if "project" in key}
    quantizer.load_state_dict({**quantizer.state_dict(), **maps})
    for (key, head), book in books(name, quantizer).items():
        book.book.copy_(weights[f"{key}.embed"][head])
        book.sums.copy_(weights[f"{key}.embed_avg"][head])
        book.counts.copy_(weights[f"{key}.cluster_size"][head])
    return quantizer


def has_loss(name: str) -> bool:
    return (FOLDER / name / "train.loss.npy").exists()


def assert_near(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


@each_case
def test_evaluation(name: str) -> None:
    quantizer = prepared(name).eval()
    latents = stored(name, "input.x")
    out = quantizer(latents)
    assert torch.equal(out.codes, stored(name, "eval.indices"))
    assert torch.equal(quantizer.encode(latents), out.codes)
    assert_near(out.latents, stored(name, "eval.quantized"))
    assert_near(quantizer.decode(out.codes), stored(name, "eval.get_output_from_indices"))
    assert not out.statistics
    if has_loss(name):
        assert not stored(name, "eval.loss").any()


@each_case
def test_training_step(name: str) -> None:
    quantizer = prepared(name).train()
    latents = stored(name, "input.x").requires_grad_()
    out = quantizer(latents)
    assert torch.equal(out.codes, stored(name, "train.indices"))
    assert_near(out.latents, stored(name, "train.quantized"))
    loss = sum(out.losses.values(), torch.zeros(()))
    if has_loss(name):
        assert_near(loss, stored(name, "train.loss").sum())
    shape = out.latents.mT.shape
    weights = torch.from_numpy(np.random.RandomState(9).randn(*shape).astype(np.float32)).mT
    ((out.latents * weights).sum() + loss).backward()
    assert latents.grad is not None
    assert_near(latents.grad, stored(name, "train.input_gradient"))
    quantizer.update(out.statistics)
    for (key, head), book in books(name, quantizer).items():
        for buffer, ours in (("embed", "book"), ("embed_avg", "sums"), ("cluster_size", "counts")):
            assert_near(getattr(book, ours), stored_state(name, f"{key}.{buffer}")[head])


def stored_state(name: str, key: str) -> Tensor:
    return torch.from_numpy(np.load(FOLDER / name / f"after_train_step.{key}.npy"))

"""Scalar quantizers against stored results of vector-quantize-pytorch 1.32.0."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from audiotokens.quantizers import (
    BSQConfig,
    FSQConfig,
    LatentConfig,
    LFQConfig,
    Quantizer,
    QuantizerConfig,
    ResidualFSQConfig,
    ResidualLFQConfig,
    build_quantizer,
)

FOLDER = Path(__file__).parent.parent / "golden" / "vqp"
CASES: dict[str, tuple[int, QuantizerConfig]] = {
    "fsq": (4, FSQConfig(levels=(8, 5, 5, 5))),
    "fsq_symmetric": (3, FSQConfig(levels=(4, 4, 5), bound="symmetric")),
    "fsq_projection_codebooks": (16, FSQConfig(levels=(8, 6, 5), num_codebooks=2)),
    "lfq": (8, LFQConfig(bits=8, commitment=0.0, floor=1e-5)),
    "lfq_projection": (16, LFQConfig(bits=6, num_codebooks=2, floor=1e-5)),
    "lfq_spherical_bsq": (16, BSQConfig(bits=8, joint_bits=None, floor=1e-5)),
    "latent_quantize": (16, LatentConfig(levels=(5, 5, 8), outer_losses=True)),
    "residual_fsq": (16, ResidualFSQConfig(levels=(8, 5, 5, 3), num_codebooks=3, gradient="levels")),
    "residual_lfq": (
        16,
        ResidualLFQConfig(
            inner=LFQConfig(bits=6, commitment=0.0, floor=1e-5), num_codebooks=3, gradient="levels"
        ),
    ),
}

each_case = pytest.mark.parametrize("name", CASES)


def stored(name: str, array: str) -> Tensor:
    """An array with latents as `[B, D, T]`, codes as int64 `[B, K, T]`."""
    tensor = torch.from_numpy(np.load(FOLDER / name / f"{array}.npy"))
    if array.endswith(".indices"):
        return (tensor if tensor.dim() == 3 else tensor[..., None]).long().mT
    return tensor.mT if tensor.dim() == 3 and not channels_first(name) else tensor


def channels_first(name: str) -> bool:
    return json.loads((FOLDER / name / "config.json").read_text())["cls"] == "LatentQuantize"


def prepared(name: str) -> Quantizer:
    dim, config = CASES[name]
    quantizer = build_quantizer(config, dim)
    weights = load_file(FOLDER / name / "weights.safetensors")
    quantizer.load_state_dict({key: value for key, value in weights.items() if "mask" not in key})
    return quantizer


def assert_near(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


@each_case
def test_evaluation(name: str) -> None:
    quantizer = prepared(name).eval()
    out = quantizer(stored(name, "input.x"))
    assert torch.equal(out.codes, stored(name, "eval.indices"))
    assert torch.equal(quantizer.encode(stored(name, "input.x")), out.codes)
    assert_near(out.latents, stored(name, "eval.quantized"))
    decoded = "eval.indices_to_codes"
    if not (FOLDER / name / f"{decoded}.npy").exists():
        decoded = "eval.get_output_from_indices"
    assert_near(quantizer.decode(out.codes), stored(name, decoded))
    if (FOLDER / name / "eval.loss.npy").exists():
        assert not out.losses and not stored(name, "eval.loss").any()


@each_case
def test_training_step(name: str) -> None:
    quantizer = prepared(name).train()
    latents = stored(name, "input.x").requires_grad_()
    out = quantizer(latents)
    assert torch.equal(out.codes, stored(name, "train.indices"))
    assert_near(out.latents, stored(name, "train.quantized"))
    loss = sum(out.losses.values(), torch.zeros(()))
    if (FOLDER / name / "train.loss.npy").exists():
        assert_near(loss, stored(name, "train.loss").sum())
    shape = stored(name, "train.quantized").shape if channels_first(name) else out.latents.mT.shape
    weights = torch.from_numpy(np.random.RandomState(9).randn(*shape).astype(np.float32))
    ((out.latents * (weights if channels_first(name) else weights.mT)).sum() + loss).backward()
    assert latents.grad is not None
    assert_near(latents.grad, stored(name, "train.input_gradient"))

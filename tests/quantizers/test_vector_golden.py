"""Vector, SimVQ and random-projection quantizers against results of vector-quantize-pytorch 1.32.0."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from audiotokens.quantizers import (
    EMALearning,
    GradientLearning,
    Quantizer,
    QuantizerConfig,
    RandomProjectionConfig,
    RandomProjectionQuantizer,
    SimVQConfig,
    VectorConfig,
    VectorQuantizer,
    build_quantizer,
)

FOLDER = Path(__file__).parent.parent / "golden" / "vqp"
EMA = EMALearning(decay=0.8, smoothing=1e-5, expire_below=0.0)
SLOW = EMALearning(decay=0.99, smoothing=1e-5, expire_below=0.0)
PLAIN = VectorConfig(codebook_size=32, learning=EMA, commitment=1.0)
ROTATED = VectorConfig(codebook_size=32, learning=EMA, commitment=1.0, gradient="rotation")
LEARNED = VectorConfig(codebook_size=32, learning=GradientLearning(), commitment=1.0)
CASES: dict[str, QuantizerConfig] = {
    "vq_ema": ROTATED,
    "vq_channel_first": ROTATED,
    "vq_ema_straight_through": VectorConfig(codebook_size=32, learning=SLOW, commitment=0.25),
    "vq_cosine": VectorConfig(codebook_size=32, learning=EMA, commitment=1.0, metric="sphere"),
    "vq_projection": VectorConfig(
        codebook_size=32, codebook_dim=8, learning=EMA, commitment=1.0, gradient="rotation"
    ),
    "vq_masked": PLAIN,
    "vq_learnable": LEARNED,
    "vq_orthogonal": VectorConfig(
        codebook_size=32, learning=GradientLearning(), commitment=1.0, orthogonal=10.0
    ),
    "sim_vq": SimVQConfig(codebook_size=32, gradient="rotation"),
    "sim_vq_straight_through": SimVQConfig(codebook_size=32, frozen_dim=8),
}
LENGTHS = {"vq_masked": [40, 23]}
RENAMED = {
    "_codebook.embed": "book",
    "_codebook.cluster_size": "counts",
    "_codebook.embed_avg": "sums",
    "frozen_codebook": "frozen",
    "code_transform.weight": "transform.weight",
}
each_case = pytest.mark.parametrize("name", CASES)


def stored(name: str, array: str) -> Tensor:
    """An array with latents as `[B, D, T]`, codes as int64 `[B, 1, T]`."""
    tensor = torch.from_numpy(np.load(FOLDER / name / f"{array}.npy"))
    if array.endswith(".indices"):
        return tensor.long()[:, None]
    return tensor.mT if tensor.dim() == 3 and name != "vq_channel_first" else tensor


def prepared(name: str) -> Quantizer:
    quantizer = build_quantizer(CASES[name], 16)
    tensors = {**dict(quantizer.named_parameters()), **dict(quantizer.named_buffers())}
    with torch.no_grad():
        for key, value in load_file(FOLDER / name / "weights.safetensors").items():
            target = tensors.get(RENAMED.get(key, key))
            if target is not None:
                target.copy_(value.view_as(target))
    return quantizer


def mask_of(name: str) -> Tensor | None:
    return torch.arange(40) < torch.tensor(LENGTHS[name])[:, None] if name in LENGTHS else None


def valid(name: str, latents: Tensor) -> Tensor:
    """The frames that count, `[M, D]`; in the others they return zeros and a code -1."""
    mask = mask_of(name)
    return latents.mT.flatten(0, 1) if mask is None else latents.mT[mask]


def assert_near(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


@each_case
def test_codes_and_vectors_are_equal(name: str) -> None:
    quantizer, latents = prepared(name).eval(), stored(name, "input.x")
    codes = valid(name, stored(name, "eval.indices"))
    assert torch.equal(valid(name, quantizer.encode(latents)), codes)
    out = quantizer(latents, mask=mask_of(name))
    assert torch.equal(valid(name, out.codes), codes)
    assert_near(valid(name, out.latents), valid(name, stored(name, "eval.quantized")))
    for array in ("get_output_from_indices", "indices_to_codes"):
        if (FOLDER / name / f"eval.{array}.npy").exists():
            assert_near(quantizer.decode(out.codes), stored(name, f"eval.{array}"))


@each_case
def test_training_step_is_equal(name: str) -> None:
    quantizer, latents = prepared(name).train(), stored(name, "input.x").contiguous().requires_grad_()
    out = quantizer(latents, mask=mask_of(name))
    assert torch.equal(valid(name, out.codes), valid(name, stored(name, "train.indices")))
    expected = stored(name, "train.quantized")
    assert_near(valid(name, out.latents), valid(name, expected))
    # One term moves latents and book there.
    terms = [value for key, value in out.losses.items() if key != "codebook" or name not in both_ways()]
    loss = torch.stack(terms).sum()
    assert_near(loss, stored(name, "train.loss"))
    shape = np.load(FOLDER / name / "train.quantized.npy").shape
    weight = torch.from_numpy(np.random.RandomState(9).randn(*shape).astype(np.float32))
    weight = weight if name == "vq_channel_first" else weight.mT
    (valid(name, out.latents * weight).sum() + loss).backward()
    assert latents.grad is not None
    assert_near(valid(name, latents.grad), valid(name, stored(name, "train.input_gradient")))
    if isinstance(quantizer, VectorQuantizer) and isinstance(quantizer.config.learning, EMALearning):
        quantizer.update(out.statistics)
        for key in ("embed", "cluster_size", "embed_avg"):
            after = torch.from_numpy(np.load(FOLDER / name / f"after_train_step._codebook.{key}.npy"))[0]
            assert_near(getattr(quantizer, RENAMED[f"_codebook.{key}"]), after)


def both_ways() -> list[str]:
    return ["vq_learnable", "vq_orthogonal"]


def test_random_projections_give_the_same_codes() -> None:
    """Behind the projections of the paper they mix all of them by a fixed affine map: one map in all."""
    weights = load_file(FOLDER / "random_projection" / "weights.safetensors")
    first = weights["rand_projs"].permute(1, 0, 2).reshape(16, 24)
    second = weights["vq.project_in.weight"].view(4, 24, 24)
    config = RandomProjectionConfig(num_codebooks=4, codebook_size=32, codebook_dim=24, offsets=True)
    quantizer = RandomProjectionQuantizer(16, config)
    quantizer.load_state_dict(
        {
            "projections": first @ second.mT,
            "offsets": weights["vq.project_in.bias"].view(4, 24),
            "books": weights["vq._codebook.embed"],
        }
    )
    latents = torch.from_numpy(np.load(FOLDER / "random_projection" / "input.x.npy")).mT
    expected = torch.from_numpy(np.load(FOLDER / "random_projection" / "eval.indices.npy")).long().mT
    assert torch.equal(quantizer.encode(latents), expected)
    assert torch.equal(quantizer(latents).codes, expected)

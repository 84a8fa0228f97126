"""Residual quantizers against stored results of vector-quantize-pytorch 1.32.0."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from audiotokens.quantizers import (
    EMALearning,
    Quantizer,
    RVQConfig,
    SimVQConfig,
    VectorConfig,
    build_quantizer,
)

FOLDER = Path(__file__).parent.parent / "golden" / "vqp"
EMA = EMALearning(decay=0.8, smoothing=1e-5, expire_below=0.0)


def vector(size: int = 16, **changes: object) -> VectorConfig:
    settings = {"learning": EMA, "commitment": 1.0, "gradient": "rotation", **changes}
    return VectorConfig(codebook_size=size, **settings)


def rvq(levels: int, inner: object, **changes: object) -> RVQConfig:
    return RVQConfig(
        **{"num_codebooks": levels, "inner": inner, "gradient": "levels", "commitment": 0.0, **changes}
    )


SIM = SimVQConfig(codebook_size=32, gradient="rotation")
CASES = {
    "residual_vq": rvq(4, vector()),
    "residual_vq_beam": rvq(4, vector()),
    "residual_vq_cosine": rvq(3, vector(metric="sphere", learning=EMALearning(decay=0.8, expire_below=0.0))),
    "residual_vq_shared": rvq(3, vector(32), shared=True, shared_update="in-turn"),
    "residual_sim_vq": rvq(3, SIM),
}
TRAINED = [name for name in CASES if name != "residual_vq_beam"]


def stored(name: str, array: str) -> Tensor:
    """An array with latents as `[B, D, T]`, codes as int64 `[B, K, T]`."""
    tensor = torch.from_numpy(np.load(FOLDER / name / f"{array}.npy"))
    tensor = tensor.mT if tensor.ndim == 3 else tensor
    return tensor.long() if array.endswith(".indices") else tensor


def near(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


def prepared(name: str) -> Quantizer:
    quantizer = build_quantizer(CASES[name], 16)
    weights = load_file(FOLDER / name / "weights.safetensors")
    for index, level in enumerate(quantizer.levels):
        if "sim" in name:
            level.frozen.copy_(weights[f"layers.{index}.frozen_codebook"])
            level.transform.load_state_dict({"weight": weights[f"layers.{index}.code_transform.weight"]})
            continue
        books = f"layers.{index}._codebook"
        level.book.copy_(weights[f"{books}.embed"][0])
        level.counts.copy_(weights[f"{books}.cluster_size"][0])
        level.sums.copy_(weights[f"{books}.embed_avg"][0])
    return quantizer


@pytest.mark.parametrize("name", TRAINED)
def test_what_the_layer_gives_when_it_is_not_trained(name: str) -> None:
    quantizer, latents = prepared(name).eval(), stored(name, "input.x")
    codes = stored(name, "eval.indices")
    out = quantizer(latents)
    assert torch.equal(out.codes, codes)
    assert torch.equal(quantizer.encode(latents), codes)
    near(out.latents, stored(name, "eval.quantized"))
    near(quantizer.decode(codes), stored(name, "eval.get_output_from_indices"))
    assert not out.statistics


@pytest.mark.parametrize("name", TRAINED)
def test_a_training_step(name: str) -> None:
    quantizer, latents = prepared(name).train(), stored(name, "input.x").requires_grad_()
    out = quantizer(latents)
    assert torch.equal(out.codes, stored(name, "train.indices"))
    near(out.latents, stored(name, "train.quantized"))
    loss = torch.stack(list(out.losses.values())).sum()
    near(loss, stored(name, "train.loss").sum())
    shape = stored(name, "train.quantized").mT.shape
    weight = torch.from_numpy(np.random.RandomState(9).randn(*shape).astype(np.float32)).mT
    (gradient,) = torch.autograd.grad((out.latents * weight).sum() + loss, latents)
    near(gradient, stored(name, "train.input_gradient"))
    quantizer.update(out.statistics)
    after = {path.name for path in (FOLDER / name).glob("after_train_step.*")}
    for index, level in enumerate(quantizer.levels):
        for ours, theirs in (("book", "embed"), ("counts", "cluster_size"), ("sums", "embed_avg")):
            array = f"after_train_step.layers.{index}._codebook.{theirs}"
            if f"{array}.npy" in after:
                near(
                    getattr(level, ours),
                    stored(name, array)[0] if theirs == "cluster_size" else stored(name, array)[0].mT,
                )
    assert bool(after) == ("sim" not in name)


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_the_output_of_each_level(mode: str) -> None:
    quantizer, codes = prepared("residual_vq"), stored("residual_vq", f"{mode}.indices")
    if mode == "train":
        # They were looked up in the books that the step had made.
        quantizer.update(quantizer(stored("residual_vq", "input.x")).statistics)
    outputs = torch.from_numpy(np.load(FOLDER / "residual_vq" / f"{mode}.extra3.npy")).mT
    for index, expected in enumerate(outputs):
        near(quantizer.level(index).decode(codes[:, index : index + 1]), expected)


def test_wide_search_by_summed_errors() -> None:
    name = "residual_vq_beam"
    quantizer, latents = prepared(name).eval(), stored(name, "input.x")
    codes = quantizer.encode(latents, search_width=4, criterion="summed")
    assert torch.equal(codes, stored(name, "eval.indices"))
    near(quantizer.decode(codes), stored(name, "eval.quantized"))
    near(quantizer.decode(codes), stored(name, "eval.get_output_from_indices"))
    errors = [(latents - quantizer.decode(codes[:, :k])).square().mean() for k in (1, 2, 3, 4)]
    near(torch.stack(errors), stored(name, "eval.loss"))

"""Quantizers converted from vector-quantize-pytorch 1.32.0 against its stored results, all of them."""

from __future__ import annotations

import io
import json
import tarfile
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load
from torch import Tensor

from audiotokens.quantizers import EMALearning, Quantizer, VectorQuantizer
from audiotokens.quantizers.conversion import FIXED, FREE, from_vector_quantize_pytorch


def stored() -> dict[str, dict[str, bytes]]:
    """Files of each folder of the archive; together they pack to half of what they take apart."""
    found: dict[str, dict[str, bytes]] = {}
    with tarfile.open(Path(__file__).parent.parent / "golden" / "vqp.tar.xz") as archive:
        for member in archive:
            if file := archive.extractfile(member):
                folder, _, name = member.name.partition("/")
                found.setdefault(folder, {})[name] = file.read()
    return found


STORED = stored()
NAMES = [
    "fsq", "fsq_projection_codebooks", "fsq_symmetric", "grouped_residual_fsq", "grouped_residual_lfq",
    "grouped_residual_vq", "latent_quantize", "lfq", "lfq_projection", "lfq_spherical_bsq",
    "random_projection", "residual_fsq", "residual_lfq", "residual_sim_vq", "residual_vq",
    "residual_vq_beam", "residual_vq_cosine", "residual_vq_projection", "residual_vq_qinco",
    "residual_vq_shared", "sim_vq", "sim_vq_straight_through", "vq_channel_first", "vq_cosine", "vq_ema",
    "vq_ema_straight_through", "vq_heads_separate", "vq_heads_shared", "vq_learnable", "vq_masked",
    "vq_orthogonal", "vq_projection",
]  # fmt: skip


class Case:
    """One folder; latents as `[B, D, T]`, codes as int64 `[B, K, T]`."""

    def __init__(self, name: str) -> None:
        self.name, self.files = name, STORED[name]
        config = json.loads(self.files["config.json"])
        self.class_name: str = config["cls"]
        self.options: dict[str, Any] = config["kwargs"]
        self.channels_first = not self.options.get("channel_last", self.class_name != "LatentQuantize")
        self.search: dict[str, Any] = {}
        if "beam_size" in self.options:
            self.search = {"search_width": self.options.pop("beam_size"), "criterion": "summed"}
        lengths = json.loads(self.files["meta.json"])["call"].get("lens")
        self.mask = None if lengths is None else torch.arange(40) < torch.tensor(lengths)[:, None]

    @cached_property
    def tensors(self) -> dict[str, Tensor]:
        return load(self.files["weights.safetensors"])

    def has(self, array: str) -> bool:
        return f"{array}.npy" in self.files

    def array(self, name: str) -> Tensor:
        return torch.from_numpy(np.load(io.BytesIO(self.files[f"{name}.npy"])))

    def latents(self, name: str) -> Tensor:
        found = self.array(name)
        return found if self.channels_first else found.flatten(2).mT

    def codes(self, name: str) -> Tensor:
        found = self.array(name).long()
        if found.dim() == 4:
            return found.permute(1, 3, 0, 2).flatten(1, 2)
        return found[:, None] if found.dim() == 2 else found.mT

    def valid(self, found: Tensor) -> Tensor:
        """What of `[B, C, T]` is not padding, `[M, C]`; padded frames have zeros and codes -1 there."""
        return found.mT.flatten(0, 1) if self.mask is None else found.mT[self.mask]

    def quantizer(self, **changed: Tensor) -> Quantizer:
        return from_vector_quantize_pytorch(self.class_name, self.options, {**self.tensors, **changed})


def cases(*without: str) -> pytest.MarkDecorator:
    chosen = [Case(name) for name in NAMES if name not in without]
    return pytest.mark.parametrize("case", chosen, ids=lambda case: case.name)


def near(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


def test_every_stored_folder_is_tested() -> None:
    assert sorted(NAMES) == sorted(STORED)
    assert len(NAMES) == 32


@cases()
def test_codes_and_values(case: Case) -> None:
    quantizer, latents = case.quantizer().eval(), case.latents("input.x")
    expected = case.codes("eval.indices")
    codes = quantizer.encode(latents, **case.search)
    assert torch.equal(case.valid(codes), case.valid(expected))
    out = quantizer(latents, mask=case.mask)
    if not case.search:
        assert torch.equal(case.valid(out.codes), case.valid(expected))
    assert not out.statistics
    if case.has("eval.quantized"):
        values = quantizer.decode(codes) if case.search else out.latents
        near(case.valid(values), case.valid(case.latents("eval.quantized")))
    for array in ("eval.get_output_from_indices", "eval.indices_to_codes"):
        if case.has(array):
            near(quantizer.decode(expected), case.latents(array))


@cases("random_projection", "residual_vq_beam", "residual_vq_qinco")
def test_training_step(case: Case) -> None:
    quantizer, latents = case.quantizer().train(), case.latents("input.x").contiguous().requires_grad_()
    out = quantizer(latents, mask=case.mask)
    assert torch.equal(case.valid(out.codes), case.valid(case.codes("train.indices")))
    near(case.valid(out.latents), case.valid(case.latents("train.quantized")))
    loss = total_loss(quantizer, out.losses)
    if case.has("train.loss"):
        near(loss, case.array("train.loss").sum())
    shape = case.array("train.quantized").shape
    weight = torch.from_numpy(np.random.RandomState(9).randn(*shape).astype(np.float32))
    weight = weight if case.channels_first else weight.mT
    (case.valid(out.latents * weight).sum() + loss).backward()
    assert latents.grad is not None
    near(case.valid(latents.grad), case.valid(case.latents("train.input_gradient")))
    quantizer.update(out.statistics)
    names = [name[:-4] for name in case.files if name.startswith("after_train_step.")]
    moved = {name.removeprefix("after_train_step."): case.array(name) for name in names}
    assert bool(moved) == any(key.endswith("embed_avg") for key in case.tensors) * averaged(quantizer)
    if moved:
        after = case.quantizer(**moved)
        expected = dict(after.named_buffers())
        for name, buffer in quantizer.named_buffers():
            near(buffer, expected[name])


def averaged(quantizer: Quantizer) -> bool:
    """Whether its books learn by moving averages."""
    books = [module for module in quantizer.modules() if isinstance(module, VectorQuantizer)]
    return bool(books) and isinstance(books[0].config.learning, EMALearning)


def total_loss(quantizer: Quantizer, losses: dict[str, Tensor]) -> Tensor:
    """The sum of the losses; one term moves latents and entries that gradients learn there."""
    twice = {"codebook"} if isinstance(quantizer, VectorQuantizer) else set()
    return sum((loss for name, loss in losses.items() if name not in twice), torch.zeros(()))


@cases(*(name for name in NAMES if "sim_vq" not in name))
def test_losses_that_are_given_without_training_too(case: Case) -> None:
    out = case.quantizer().eval()(case.latents("input.x"))
    near(total_loss(case.quantizer(), out.losses), case.array("eval.loss").sum())


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_output_of_each_level(mode: str) -> None:
    case = Case("residual_vq")
    quantizer, codes = case.quantizer(), case.codes(f"{mode}.indices")
    if mode == "train":
        # They were looked up in the books that the step had made.
        quantizer.update(quantizer.train()(case.latents("input.x")).statistics)
    for level, expected in enumerate(case.array(f"{mode}.extra3").mT):
        near(quantizer.level(level).decode(codes[:, level : level + 1]), expected)


def test_errors_of_a_wide_search() -> None:
    case = Case("residual_vq_beam")
    quantizer, latents = case.quantizer(), case.latents("input.x")
    codes = quantizer.encode(latents, **case.search)
    errors = [(latents - quantizer.decode(codes[:, :k])).square().mean() for k in (1, 2, 3, 4)]
    near(torch.stack(errors), case.array("eval.loss"))


def test_what_gradients_learn_gets_both_gradients_of_their_loss() -> None:
    case = Case("vq_learnable")
    quantizer, latents = case.quantizer(), case.latents("input.x")
    assert isinstance(quantizer, VectorQuantizer)
    sum(quantizer(latents).losses.values(), torch.zeros(())).backward()
    entries = quantizer.book.detach().clone().requires_grad_()
    rows = latents.mT.flatten(0, 1)
    (rows - entries[quantizer.encode(latents).flatten()]).square().mean().backward()
    near(quantizer.book.grad, entries.grad)


SMALL = {"dim": 4, "codebook_size": 3}
STATE = {
    "_codebook.initted": torch.tensor(True),
    "_codebook.cluster_size": torch.ones(1, 3),
    "_codebook.embed": torch.eye(4)[None, :3],
    "_codebook.embed_avg": torch.eye(4)[None, :3],
}


@pytest.mark.parametrize("option", FREE)
def test_options_that_decide_nothing(option: str) -> None:
    quantizer = from_vector_quantize_pytorch("VectorQuantize", {**SMALL, option: "anything"}, STATE)
    assert quantizer.encode(torch.eye(4)[None]).tolist() == [[[0, 1, 2, 0]]]


@pytest.mark.parametrize("option", FIXED)
def test_options_without_counterpart_are_refused(option: str) -> None:
    for legal in FIXED[option]:
        from_vector_quantize_pytorch("VectorQuantize", {**SMALL, option: legal}, STATE)
    with pytest.raises(
        ValueError, match=f"^VectorQuantize: {option} is 2, which has no counterpart; expected"
    ):
        from_vector_quantize_pytorch("VectorQuantize", {**SMALL, option: 2}, STATE)


def test_expiry_and_losses_are_those_of_the_options() -> None:
    options = {**SMALL, "threshold_ema_dead_code": 2, "decay": 0.9, "commitment_weight": 0.5, "eps": 0.25}
    quantizer = from_vector_quantize_pytorch("VectorQuantize", options, STATE)
    assert isinstance(quantizer, VectorQuantizer)
    assert quantizer.config.learning == EMALearning(decay=0.9, smoothing=0.25, expire_below=2)
    assert (quantizer.config.commitment, quantizer.config.gradient) == (0.5, "rotation")


REFUSED = [
    ("Codec", {}, {}, 'there is no counterpart of "Codec", expected one of FSQ'),
    ("VectorQuantize", {**SMALL, "haeds": 2}, {}, 'found an unknown option "haeds"; check its name'),
    ("VectorQuantize", {"dim": 4}, {}, "the option codebook_size is missing"),
    ("VectorQuantize", {**SMALL, "ema_update": False}, {}, "ema_update is False, which has no counterpart"),
    ("VectorQuantize", {**SMALL, "codebook_size": 5}, {}, "found the shape .3, 4. for book, expected .5, 4."),
    ("VectorQuantize", {**SMALL, "codebook_dim": 2}, {}, "found no tensor project_in.weight"),
    (
        "VectorQuantize",
        SMALL,
        {"project_in.weight": torch.eye(4)},
        "found the tensor project_in.weight",
    ),
    ("VectorQuantize", SMALL, {"_codebook.initted": torch.tensor(False)}, "a book has not started"),
    (
        "VectorQuantize",
        {**SMALL, "use_cosine_sim": True},
        {"_codebook.embed": 2 * torch.eye(4)[None, :3]},
        "found an entry of length 2, expected unit vectors",
    ),
    ("LFQ", {"codebook_size": 12}, {}, "codebook_size is 12, expected a power of 2"),
    (
        "FSQ",
        {"levels": [3], "bound_hard_clamp": True},
        {},
        "bound_hard_clamp is True",
    ),
    (
        "ResidualVQ",
        {**SMALL, "num_quantizers": 2, "beam_size": 4},
        {},
        "give encode search_width",
    ),
    ("ResidualVQ", {**SMALL, "num_quantizers": 2, "quant_grad_frac": 0.5}, {}, "quant_grad_frac is 0.5"),
    ("LatentQuantize", {"levels": [3], "dim": 1, "optimize_values": False}, {}, "optimize_values is False"),
]


@pytest.mark.parametrize(("class_name", "options", "tensors", "message"), REFUSED)
def test_what_cannot_be_converted_is_refused(
    class_name: str, options: dict[str, Any], tensors: dict[str, Tensor], message: str
) -> None:
    state = STATE if class_name == "VectorQuantize" else {}
    if class_name == "ResidualVQ":
        state = {f"layers.{level}.{key}": value for level in (0, 1) for key, value in STATE.items()}
    if class_name == "LatentQuantize":
        state = {"values_per_latent.0": torch.zeros(3)}
    with pytest.raises(ValueError, match=message):
        from_vector_quantize_pytorch(class_name, options, {**state, **tensors})

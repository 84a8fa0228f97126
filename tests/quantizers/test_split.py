"""A semantic quantizer beside an acoustic one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from audiotokens.config import from_dict, to_dict
from audiotokens.errors import ConfigError
from audiotokens.quantizers import (
    EMALearning,
    FSQConfig,
    GroupedConfig,
    ProjectedConfig,
    ProjectedQuantizer,
    QuantizerConfig,
    RVQConfig,
    SplitConfig,
    SplitQuantizer,
    VectorConfig,
    VectorQuantizer,
    merge_statistics,
)

VQ = ProjectedConfig(inner=VectorConfig(codebook_size=16), inner_dim=6, bias=False)
RVQ = ProjectedConfig(
    inner=RVQConfig(num_codebooks=3, inner=VectorConfig(codebook_size=16)), inner_dim=6, bias=False
)
LATENTS = torch.randn(3, 12, 50, generator=torch.Generator().manual_seed(1))


def quantizer(semantic: QuantizerConfig = VQ, acoustic: QuantizerConfig = RVQ) -> SplitQuantizer:
    torch.manual_seed(0)
    return SplitQuantizer(12, SplitConfig(semantic=semantic, acoustic=acoustic))


def test_both_see_the_same_latents_and_are_added() -> None:
    split = quantizer().eval()
    codes = split.encode(LATENTS)
    assert torch.equal(codes[:, :1], split.semantic.encode(LATENTS))
    assert torch.equal(codes[:, 1:], split.acoustic.encode(LATENTS))
    assert torch.equal(split.encode(LATENTS[1:2, :, 5:8]), codes[1:2, :, 5:8])
    out = split(LATENTS)
    assert torch.equal(out.codes, codes)
    expected = split.semantic.decode(codes[:, :1]) + split.acoustic.decode(codes[:, 1:])
    torch.testing.assert_close(out.latents, expected)
    assert torch.equal(split.decode(codes), expected)


def test_prefixes_are_the_semantic_codes_and_some_acoustic_ones() -> None:
    split = quantizer().eval()
    assert split.legal_prefixes == (1, 2, 3, 4) and split.codebook_sizes == (16, 16, 16, 16)
    codes = split.encode(LATENTS)
    for books in split.legal_prefixes:
        assert torch.equal(split.encode(LATENTS, num_codebooks=books), codes[:, :books])
        decoded = split.decode(codes[:, :books])
        torch.testing.assert_close(split(LATENTS, num_codebooks=books).latents, decoded)
    out = split(LATENTS, num_codebooks=torch.tensor([1, 4, 2]))
    for item, books in enumerate((1, 4, 2)):
        torch.testing.assert_close(out.latents[item], split.decode(codes[item : item + 1, :books])[0])
    torch.testing.assert_close(split.decode(codes[:, :1]), split.semantic.decode(codes[:, :1]))


def test_prefixes_where_not_every_number_can_be_decoded() -> None:
    grouped = GroupedConfig(groups=2, inner=VectorConfig(codebook_size=8))
    split = quantizer(semantic=grouped, acoustic=grouped).eval()
    assert split.legal_prefixes == (2, 4)
    with pytest.raises(ValueError, match="num_codebooks is 3, expected one of 2, 4"):
        split.encode(LATENTS, num_codebooks=3)
    with pytest.raises(ValueError, match="num_codebooks is 1, expected one of 2, 4"):
        split.decode(torch.zeros(1, 1, 5, dtype=torch.long))


def test_an_item_without_acoustic_codes_leaves_no_acoustic_statistics() -> None:
    split = quantizer().train()
    mask = torch.arange(50).expand(3, -1) < torch.tensor([50, 20, 35])[:, None]
    used = torch.tensor([1, 4, 2])
    out = split(LATENTS, num_codebooks=used, mask=mask)
    counts = {name: int(value.sum()) for name, value in out.statistics.items() if name.endswith("sum_counts")}
    assert counts["semantic.inner.sum_counts"] == 105
    assert sum(value for name, value in counts.items() if name.startswith("acoustic.")) == 20 * 3 + 35
    noisy = torch.where(mask[:, None], LATENTS, 1e3)
    torch.testing.assert_close(split(noisy, num_codebooks=used, mask=mask).losses, out.losses)


def test_semantic_codes_alone_have_the_semantic_loss_only() -> None:
    split = quantizer().train()
    latents = LATENTS.clone().requires_grad_()
    out = split(latents, num_codebooks=1)
    torch.testing.assert_close(out.losses, split.semantic(LATENTS).losses)
    (out.latents.sum() + sum(out.losses.values())).backward()
    assert latents.grad is not None and latents.grad.isfinite().all()
    (expected,) = torch.autograd.grad(split.semantic(latents).latents.sum(), latents)
    (found,) = torch.autograd.grad(split(latents, num_codebooks=1).latents.sum(), latents)
    torch.testing.assert_close(found, expected)


def test_losses_and_gradients_are_the_sums_of_both() -> None:
    split = quantizer().train()
    latents = LATENTS.clone().requires_grad_()
    out = split(latents)
    weight = torch.randn_like(latents)
    (found,) = torch.autograd.grad((out.latents * weight).sum(), latents)
    parts = [inner(latents) for inner in (split.semantic, split.acoustic)]
    both = sum((part.latents * weight).sum() for part in parts)
    torch.testing.assert_close(found, torch.autograd.grad(both, latents)[0])
    expected = parts[0].losses["commitment"] + parts[1].losses["commitment"]
    torch.testing.assert_close(out.losses["commitment"], expected)


def test_statistics_of_halves_are_those_of_the_whole() -> None:
    split, other = (quantizer().train() for _ in range(2))
    whole = split(LATENTS).statistics
    parts = merge_statistics([split(LATENTS[:1]).statistics, split(LATENTS[1:]).statistics])
    split.update(whole)
    other.update(parts)
    changed = 0
    for name, value in other.state_dict().items():
        torch.testing.assert_close(value, split.state_dict()[name])
        changed += not torch.equal(value, quantizer().state_dict()[name])
    assert changed >= 2


def test_both_are_initialized() -> None:
    split = quantizer(
        VectorConfig(codebook_size=64), RVQConfig(num_codebooks=3, inner=VectorConfig(codebook_size=64))
    )
    split.initialize(LATENTS.mT.reshape(-1, 12), generator=torch.Generator().manual_seed(0))
    for inner in (split.semantic, split.acoustic):
        assert (inner(LATENTS).latents - LATENTS).square().mean() < 0.6 * LATENTS.square().mean()


def test_state_dict_holds_both() -> None:
    names = quantizer().state_dict()
    assert {name.partition(".")[0] for name in names} == {"semantic", "acoustic"}
    assert {"acoustic.inner.levels.2.book", "semantic.inner.book", "semantic.project_in.weight"} <= set(names)


@dataclass(frozen=True)
class Model:
    quantizer: QuantizerConfig


def test_configuration_survives_and_mistakes_are_named() -> None:
    config = SplitConfig(semantic=FSQConfig(), acoustic=RVQ)
    assert from_dict(Model, {"quantizer": to_dict(config)}) == Model(config)
    with pytest.raises(ConfigError, match=r'quantizer\.acoustic: the key "kind" is missing'):
        from_dict(Model, {"quantizer": {"kind": "split", "semantic": {"kind": "fsq"}, "acoustic": {}}})
    with pytest.raises(ConfigError, match=r'quantizer\.semantic\.kind: no quantizer is of the kind "fsk"'):
        from_dict(Model, {"quantizer": {"kind": "split", "semantic": {"kind": "fsk"}}})


GOLDEN = Path(__file__).parent.parent / "golden" / "mimi" / "rvq_training_step"


def mimi_array(name: str) -> Tensor:
    return torch.from_numpy(np.load(GOLDEN / f"{name}.npy"))


def mimi_books(split: SplitQuantizer) -> dict[str, VectorQuantizer]:
    """The books by their keys in Mimi."""
    found = {}
    for name, module in split.named_modules():
        if isinstance(module, VectorQuantizer):
            part = "rvq_first" if name.startswith("semantic") else "rvq_rest"
            found[f"{part}.vq.layers.{name.rpartition('.')[2]}._codebook"] = module
    return found


def mimi() -> SplitQuantizer:
    # Mimi takes the mean of the losses of its three books.
    book = VectorConfig(
        codebook_size=16, learning=EMALearning(decay=0.99, expire_below=0.0), commitment=1 / 3
    )
    parts = [
        ProjectedConfig(
            inner=RVQConfig(num_codebooks=books, inner=book, commitment=0.0), inner_dim=6, bias=False
        )
        for books in (1, 2)
    ]
    split = SplitQuantizer(8, SplitConfig(semantic=parts[0], acoustic=parts[1])).train()
    weights = load_file(GOLDEN / "weights.safetensors")
    for key, part in (("rvq_first", split.semantic), ("rvq_rest", split.acoustic)):
        assert isinstance(part, ProjectedQuantizer)
        part.project_in.load_state_dict({"weight": weights[f"{key}.input_proj.weight"][..., 0]})
        part.project_out.load_state_dict({"weight": weights[f"{key}.output_proj.weight"][..., 0]})
    for key, module in mimi_books(split).items():
        usage, total = weights[f"{key}.cluster_usage"], weights[f"{key}.embedding_sum"]
        module.book.copy_(total / usage[:, None])
        module.counts.copy_(usage)
        module.sums.copy_(total)
    return split


def assert_near(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


def test_training_step_of_mimi() -> None:
    split, latents = mimi(), mimi_array("train.input").requires_grad_()
    out = split(latents)
    assert torch.equal(out.codes, mimi_array("train.codes").long())
    assert torch.equal(split.encode(latents.detach()), out.codes)
    assert_near(out.latents, mimi_array("train.quantized"))
    assert_near(out.losses["commitment"], mimi_array("train.penalty")[0])
    shape = out.latents.shape
    weight = torch.from_numpy(np.random.RandomState(9).randn(*shape).astype(np.float32))
    ((out.latents * weight).sum() + out.losses["commitment"]).backward()
    assert latents.grad is not None
    assert_near(latents.grad, mimi_array("train.input_gradient"))
    split.update(out.statistics)
    for key, book in mimi_books(split).items():
        usage, total = (mimi_array(f"after.{key}.{name}") for name in ("cluster_usage", "embedding_sum"))
        assert_near(book.counts, usage)
        assert_near(book.sums, total)
        assert_near(book.book, total / usage[:, None])

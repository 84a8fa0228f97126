"""Quantizers at the depths of a decoder: algebra with small decoders, and two streams of ESC."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from audiotokens.config import from_dict, to_dict
from audiotokens.errors import ConfigError
from audiotokens.quantizers import (
    CrossScaleConfig,
    CrossScaleQuantizer,
    FSQConfig,
    GroupedConfig,
    MultiscaleConfig,
    MultiscaleQuantizer,
    ProjectedConfig,
    ProjectedQuantizer,
    QuantizerConfig,
    RVQConfig,
    VectorConfig,
    merge_statistics,
)

VQ = VectorConfig(codebook_size=16)
INNER = (VQ, GroupedConfig(inner=VQ, groups=2), RVQConfig(num_codebooks=2, inner=VQ))
DIMS, FRAMES = (8, 6, 4), (5, 10, 20)
Blocks = list[Callable[[Tensor], Tensor]]


def quantizer(inner: tuple[QuantizerConfig, ...] = INNER, **changes: object) -> CrossScaleQuantizer:
    torch.manual_seed(0)
    return CrossScaleQuantizer(DIMS, CrossScaleConfig(**{"inner": inner, **changes}))


def encoder_features(batch: int = 3) -> list[Tensor]:
    random = torch.Generator().manual_seed(1)
    return [torch.randn(batch, dim, frames, generator=random) for dim, frames in zip(DIMS, FRAMES)]


def decoder() -> Blocks:
    torch.manual_seed(2)
    up = [nn.ConvTranspose1d(8, 6, 2, stride=2), nn.ConvTranspose1d(6, 4, 2, stride=2), nn.Conv1d(4, 1, 1)]
    return [nn.Sequential(layer, nn.Tanh()) for layer in up]


def by_hand(cross: CrossScaleQuantizer, features: Sequence[Tensor], blocks: Blocks, depths: int) -> Tensor:
    refined = cross.quantizers[0].decode(cross.quantizers[0].encode(features[0]))
    for depth in (1, 2):
        decoded = blocks[depth - 1](refined)
        if depth < depths:
            inner = cross.quantizers[depth]
            refined = decoded + inner.decode(inner.encode(features[depth] - decoded))
        else:
            refined = decoded
    return blocks[2](refined)


@torch.no_grad()
@pytest.mark.parametrize("depths", [1, 2, 3])
def test_any_number_of_depths_is_what_running_by_hand_gives(depths: int) -> None:
    cross, features, blocks = quantizer().eval(), encoder_features(), decoder()
    expected = by_hand(cross, features, blocks, depths)
    codes = cross.encode(features, blocks, num_depths=depths)
    out = cross(features, blocks, num_depths=depths)
    assert [tuple(part.shape) for part in codes] == [(3, 1, 5), (3, 2, 10), (3, 2, 20)][:depths]
    assert all(torch.equal(part, other) for part, other in zip(out.codes, codes))
    torch.testing.assert_close(cross.decode(codes, blocks), expected)
    torch.testing.assert_close(out.output, expected)
    whole = cross.encode(features, blocks)
    assert all(torch.equal(part, other) for part, other in zip(codes, whole))
    assert cross.legal_prefixes == (1, 2, 3)
    assert cross.codebook_sizes == ((16,), (16, 16), (16, 16))


@torch.no_grad()
def test_items_use_their_own_number_of_depths() -> None:
    cross, features, blocks = quantizer().eval(), encoder_features(), decoder()
    output = cross(features, blocks, num_depths=torch.tensor([1, 3, 2])).output
    for item, depths in enumerate((1, 3, 2)):
        alone = by_hand(cross, [feature[item : item + 1] for feature in features], blocks, depths)
        torch.testing.assert_close(output[item : item + 1], alone)


@torch.no_grad()
def test_codes_in_float64_do_not_depend_on_the_batch() -> None:
    cross = quantizer().eval()
    features = [feature.double() for feature in encoder_features(9)]
    blocks = [block.double() for block in decoder() if isinstance(block, nn.Module)]
    whole = cross.encode(features, blocks)
    alone = cross.encode([feature[4:5] for feature in features], blocks)
    assert all(torch.equal(part[4:5], other) for part, other in zip(whole, alone))
    assert cross.decode(whole, blocks, dtype=torch.float64).dtype == torch.float64


def test_with_one_scale_it_is_a_residual_quantizer() -> None:
    torch.manual_seed(0)
    cross = CrossScaleQuantizer((6, 6, 6), CrossScaleConfig(inner=(VQ,) * 3)).eval()
    residual = MultiscaleQuantizer(6, MultiscaleConfig(inner=VQ, strides=(1, 1, 1))).eval()
    for ours, theirs in zip(residual.inner_quantizers(), cross.quantizers):
        ours[1].load_state_dict(theirs.state_dict())
    latents = torch.randn(2, 6, 20)
    blocks: Blocks = [nn.Identity()] * 3
    codes = cross.encode([latents] * 3, blocks)
    assert all(torch.equal(part, other) for part, other in zip(codes, residual.encode(latents)))
    torch.testing.assert_close(cross([latents] * 3, blocks).output, residual(latents).latents)


@pytest.mark.parametrize("gradient", ["sum", "chain"])
def test_gradients_of_encoder_and_decoder(gradient: str) -> None:
    cross = quantizer((VQ, VQ, VQ), gradient=gradient)
    features = [feature.requires_grad_() for feature in encoder_features()]
    cross(features, decoder()).output.sum().backward()
    reached = [bool(feature.grad is not None and feature.grad.any()) for feature in features]
    # Straight through e - d + d: with the chain, what the deeper decoder gave has no effect any more.
    assert reached == ([True, True, True] if gradient == "sum" else [False, False, True])


def test_statistics_and_losses_leave_out_padded_frames_and_unused_depths() -> None:
    cross, features, blocks = quantizer((VQ, VQ, VQ)).train(), encoder_features(), decoder()
    masks = [torch.arange(n) < torch.tensor([[n], [n * 2 // 5], [n * 3 // 5]]) for n in FRAMES]
    used = torch.tensor([1, 3, 2])
    out = cross(features, blocks, num_depths=used, masks=masks)
    counts = [int(out.statistics[f"inner.{i}.sum_counts"].sum()) for i in range(3)]
    assert counts == [5 + 2 + 3, 4 + 6, 8]
    noisy = [torch.where(mask[:, None], feature, 1e3) for mask, feature in zip(masks, features)]
    torch.testing.assert_close(cross(noisy, blocks, num_depths=used, masks=masks).losses, out.losses)
    alone = quantizer()
    losses = alone(features, blocks, num_depths=1).losses
    torch.testing.assert_close(losses, alone.quantizers[0](features[0]).losses)


def test_statistics_of_halves_are_those_of_the_whole() -> None:
    cross, other = (quantizer().train() for _ in range(2))
    features, blocks = encoder_features(), decoder()
    cross.update(cross(features, blocks).statistics)
    parts = [other([f[part] for f in features], blocks).statistics for part in (slice(1), slice(1, 3))]
    other.update(merge_statistics(parts))
    before = quantizer().state_dict()
    for name, value in other.state_dict().items():
        torch.testing.assert_close(value, cross.state_dict()[name])
        assert not torch.equal(value, before[name])
    assert {"inner.0.book", "inner.1.inner.1.book", "inner.2.levels.1.book"} <= set(before)


@torch.no_grad()
def test_initialized_books_fit_what_the_decoder_leaves() -> None:
    cross, features, blocks = quantizer().train(), encoder_features(40), decoder()
    error = [sum(loss.item() for loss in cross(features, blocks).losses.values())]
    cross.initialize(features, blocks, generator=torch.Generator().manual_seed(0))
    error.append(sum(loss.item() for loss in cross(features, blocks).losses.values()))
    assert error[1] < 0.7 * error[0]


def test_what_does_not_fit_together_is_refused() -> None:
    cross, features, blocks = quantizer(), encoder_features(), decoder()
    codes = cross.encode(features, blocks)
    with pytest.raises(ValueError, match="dims are of 2 depths, expected 3, one per quantizer"):
        CrossScaleQuantizer((8, 6), CrossScaleConfig(inner=INNER))
    with pytest.raises(ValueError, match="found 2 blocks, expected 3, one per depth"):
        cross(features, blocks[:2])
    with pytest.raises(ValueError, match="found 1 masks, expected 3"):
        cross(features, blocks, masks=[torch.ones(3, 5, dtype=torch.bool)])
    with pytest.raises(ValueError, match="found 2 features and 3 blocks, expected 3 and 2"):
        cross.encode(features[:2], blocks)
    with pytest.raises(ValueError, match=r"depth 1 have the shape \(3, 6, 9\), .* gives \(3, 6, 10\)"):
        cross.encode([features[0], features[1][..., :9], features[2]], blocks)
    for bad in (0, 4):
        with pytest.raises(ValueError, match=f"the number of depths is {bad}, expected 1 to 3"):
            cross.encode(features, blocks, num_depths=bad)
    with pytest.raises(ValueError, match="the number of depths is 0"):
        cross.decode(codes[:0], blocks)


@dataclass(frozen=True)
class Model:
    quantizer: CrossScaleConfig


def test_configuration_survives_and_mistakes_are_named() -> None:
    config = CrossScaleConfig(inner=(FSQConfig(), *INNER), gradient="chain")
    assert from_dict(Model, {"quantizer": to_dict(config)}) == Model(config)
    with pytest.raises(ConfigError, match=r'quantizer\.inner\[1\]\.kind: .*"vectr".*did you mean "vector"'):
        from_dict(Model, {"quantizer": {"inner": [{"kind": "fsq"}, {"kind": "vectr"}]}})
    with pytest.raises(ConfigError, match="inner is empty, expected a quantizer per depth"):
        from_dict(Model, {"quantizer": {"inner": []}})


GOLDEN = Path(__file__).parent.parent / "golden" / "esc" / "csvq_swin"


def esc() -> CrossScaleQuantizer:
    """The two deepest streams, of two frames and two bands with 12 channels in three groups."""
    book = VectorConfig(codebook_size=24, metric="cosine")
    groups = GroupedConfig(groups=3, inner=ProjectedConfig(inner=book, inner_dim=8, bias=False))
    cross = CrossScaleQuantizer((48, 48), CrossScaleConfig(inner=(groups, groups)))
    weights = {key: value.float() for key, value in load_file(GOLDEN / "quantizers.safetensors").items()}
    for name, module in cross.named_modules():
        if isinstance(module, ProjectedQuantizer):
            stream, group = (int(part) for part in name.split(".") if part.isdigit())
            key = f"quantizers.{stream}"
            module.load_state_dict(
                {
                    "project_in.weight": weights[f"{key}.down_projs.{group}.weight"],
                    "project_out.weight": weights[f"{key}.up_projs.{group}.weight"],
                    "inner.book": weights[f"{key}.vqs.{group}.embedding.weight"],
                }
            )
    return cross


@pytest.mark.parametrize("run", ["a", "b"])
def test_codes_of_the_two_deepest_streams_of_esc(run: str) -> None:
    # Both streams see the deepest features; the second one codes what the first leaves.
    features = torch.from_numpy(np.load(GOLDEN / f"{run}.bottom_latent.npy"))
    frames = features.unflatten(0, (2, -1)).permute(1, 2, 0).flatten(1)
    latents = frames.unflatten(0, (-1, 2)).flatten(1).mT[None]
    expected = torch.from_numpy(np.load(GOLDEN / f"{run}.codes.npy")).long()
    codes = esc().encode([latents, latents], [nn.Identity()])
    assert torch.equal(torch.cat(codes), expected[:2])

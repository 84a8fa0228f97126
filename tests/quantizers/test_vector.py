from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from audiotokens.config import from_dict, to_dict
from audiotokens.errors import ConfigError
from audiotokens.quantizers import (
    EMALearning,
    EntropyPenalty,
    GradientLearning,
    OnlineClustering,
    VectorConfig,
    VectorQuantizer,
    merge_statistics,
)
from audiotokens.quantizers.gradients import rotate
from audiotokens.quantizers.regularizers import entropy_penalty, orthogonality

CONFIGS = {
    "averages": {},
    "smoothed": {"learning": EMALearning(decay=0.9, smoothing=1e-3, expire_below=0.0)},
    "expiring": {"learning": EMALearning(decay=0.5, expire_below=1.0)},
    "learned": {"learning": GradientLearning(expire_below=0.5, decay=0.5)},
    "cosine": {"metric": "cosine", "codebook_dim": 4},
    "sphere": {"metric": "sphere", "learning": EMALearning(decay=0.5, expire_below=1.0)},
    "clustered": {"clustering": OnlineClustering(sharpness=5.0)},
    "clustered parameter": {
        "learning": GradientLearning(),
        "clustering": OnlineClustering(sharpness=5.0),
        "entropy": EntropyPenalty(),
        "orthogonal": 1.0,
    },
}
each_config = pytest.mark.parametrize("changes", CONFIGS.values(), ids=CONFIGS)


def quantizer(**changes: Any) -> VectorQuantizer:
    torch.manual_seed(0)
    return VectorQuantizer(6, VectorConfig(**{"codebook_size": 32, **changes}))


def sample(items: int = 3, frames: int = 200, dim: int = 6) -> Tensor:
    return torch.randn(items, dim, frames, generator=torch.Generator().manual_seed(1))


def rows(latents: Tensor) -> Tensor:
    return latents.mT.flatten(0, 1)


def among(some: Tensor, vectors: Tensor) -> bool:
    return bool((some[:, None] == vectors).all(2).any(1).all())


def everything(module: torch.nn.Module) -> dict[str, Tensor]:
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


# Search


def test_codes_are_those_of_the_nearest_entries() -> None:
    vq, latents = quantizer().eval(), sample()
    distances = torch.cdist(rows(latents).double(), vq.book.double())
    expected = distances.argmin(1).view(3, 1, 200)
    assert torch.equal(vq.encode(latents), expected)
    assert torch.equal(vq(latents).codes, expected)
    torch.testing.assert_close(vq.scores(rows(latents).double()), distances.square())
    assert torch.equal(vq.decode(expected), vq.book[expected[:, 0]].mT)


@pytest.mark.parametrize("metric", ["cosine", "sphere"])
def test_angles_are_searched_and_only_the_sphere_forgets_lengths(metric: str) -> None:
    vq, latents = quantizer(metric=metric, learning=GradientLearning()), sample()
    with torch.no_grad():
        vq.book *= torch.linspace(0.1, 9.0, 32)[:, None]
    cosines = torch.nn.functional.normalize(rows(latents), dim=1) @ vq.book.T / vq.book.norm(dim=1)
    out = vq(latents)
    assert torch.equal(out.codes.flatten(), cosines.argmax(1))
    assert torch.equal(vq.encode(latents), out.codes)
    assert torch.equal(vq(latents * torch.rand(3, 1, 200).add(0.1)).codes, out.codes)
    stored = vq.book if metric == "cosine" else vq.book / vq.book.norm(dim=1, keepdim=True)
    torch.testing.assert_close(rows(out.latents), stored[out.codes.flatten()])
    first = rows(latents) if metric == "cosine" else torch.nn.functional.normalize(rows(latents), dim=1)
    torch.testing.assert_close(out.losses["commitment"], 0.25 * (first - rows(out.latents)).square().mean())


@each_config
def test_encode_gives_the_same_codes_in_any_batch(changes: dict[str, Any]) -> None:
    vq, latents = quantizer(**changes).eval(), sample(4, 257)
    codes = vq.encode(latents)
    assert torch.equal(vq(latents).codes, codes)
    for frames in (1, 3, 64):
        assert torch.equal(vq.encode(latents[2:3, :, :frames]), codes[2:3, :, :frames])
    assert vq.encode(latents[:, :, :0]).shape == (4, 1, 0)
    assert vq.decode(codes[:, :, :0]).shape == (4, 6, 0)


@each_config
def test_the_lowest_of_equal_entries_wins(changes: dict[str, Any]) -> None:
    vq, latents = quantizer(**changes), sample()
    with torch.no_grad():
        vq.book[16:] = vq.book[:16]
    for mode in (True, False):
        assert int(vq.train(mode)(latents).codes.max()) < 16
    assert int(vq.encode(latents).max()) < 16
    with torch.no_grad():
        vq.book[:16] += 100.0 * torch.sign(vq.book[:16])
    assert int(vq.encode(latents * 0.1).max()) >= 16 or vq.metric != "euclidean"


@each_config
def test_autocast_changes_nothing(changes: dict[str, Any]) -> None:
    vq, latents = quantizer(**changes), sample()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside, encoded = vq(latents), vq.encode(latents)
    outside = vq(latents)
    assert torch.equal(inside.codes, outside.codes) and torch.equal(encoded, vq.encode(latents))
    assert torch.equal(inside.latents, outside.latents)
    assert all(torch.equal(inside.losses[key], outside.losses[key]) for key in outside.losses)


# Gradients


def test_gradient_is_straight_through_plus_commitment() -> None:
    vq, latents = quantizer(learning=GradientLearning(codebook_weight=2.0)), sample().requires_grad_()
    out, weight = vq(latents), torch.randn(3, 6, 200)
    assert torch.equal(out.latents, vq.decode(out.codes))
    (straight,) = torch.autograd.grad((out.latents * weight).sum(), latents, retain_graph=True)
    assert torch.equal(straight, weight)
    error = latents.detach() - out.latents.detach()
    (pull,) = torch.autograd.grad(out.losses["commitment"], latents, retain_graph=True)
    torch.testing.assert_close(pull, 0.25 * 2 * error / error.numel())
    torch.testing.assert_close(out.losses["commitment"], 0.25 * error.square().mean())
    (moved,) = torch.autograd.grad(out.losses["codebook"], vq.book, retain_graph=True)
    by_hand = torch.zeros(32, 6).index_add_(0, out.codes.flatten(), -rows(error))
    torch.testing.assert_close(moved, 2.0 * 2 * by_hand / error.numel())
    assert torch.autograd.grad(out.losses["codebook"], latents, allow_unused=True) == (None,)


def test_gradient_reaches_the_projections() -> None:
    vq, latents = quantizer(codebook_dim=3), sample().requires_grad_()
    out, weight = vq(latents), torch.randn(3, 6, 200)
    (found,) = torch.autograd.grad((out.latents * weight).sum(), latents)
    into, outof = vq.project_in.weight, vq.project_out.weight
    torch.testing.assert_close(rows(found), rows(weight) @ outof @ into)


def test_rotation_turns_and_scales_the_gradient_in_the_plane_of_both_vectors() -> None:
    generator = torch.Generator().manual_seed(2)
    z, q = torch.randn(2, 5, generator=generator, dtype=torch.float64).unbind()
    jacobian = torch.autograd.functional.jacobian(lambda x: rotate(x[None], q[None])[0], z)
    scale = q.norm() / z.norm()
    turn = jacobian / scale
    torch.testing.assert_close(turn @ turn.T, torch.eye(5, dtype=torch.float64))
    torch.testing.assert_close(torch.linalg.det(turn), torch.ones((), dtype=torch.float64))
    torch.testing.assert_close(jacobian @ z, q)
    outside = torch.linalg.svd(torch.stack([z, q])).Vh[2:]
    torch.testing.assert_close(outside @ turn.T, outside)


def test_rotation_is_finite_for_zeros_and_opposite_vectors() -> None:
    z = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 0.0]], requires_grad=True)
    q = torch.tensor([[1.0, 0.0], [0.0, 0.0], [-2.0, 0.0]])
    turned = rotate(z, q)
    turned.sum().backward()
    assert z.grad is not None and z.grad.isfinite().all()
    torch.testing.assert_close(turned[1:], q[1:])


def test_forward_values_are_entries_with_either_gradient() -> None:
    latents = sample()
    for gradient in ("straight-through", "rotation"):
        out = quantizer(gradient=gradient)(latents)
        assert torch.equal(out.latents, quantizer().decode(out.codes))


# Learning


def test_averages_move_by_hand() -> None:
    vq, latents = quantizer(learning=EMALearning(decay=0.9, expire_below=0.0)), sample()
    out, before = vq(latents), vq.book.clone()
    assert torch.equal(vq.book, before)
    vq.update(out.statistics)
    index, number = out.codes.flatten(), torch.zeros(32)
    for entry in range(32):
        won = rows(latents)[index == entry]
        number[entry] = 0.9 * 1.0 + 0.1 * len(won)
        mean = (0.9 * before[entry] + 0.1 * won.sum(0)) / number[entry]
        torch.testing.assert_close(vq.book[entry], mean)
    torch.testing.assert_close(vq.counts, number)


def test_evaluation_leaves_no_statistics() -> None:
    assert quantizer().eval()(sample()).statistics == {}


@each_config
def test_halves_merged_teach_what_the_whole_does(changes: dict[str, Any]) -> None:
    one, two, latents = quantizer(**changes).train(), quantizer(**changes).train(), sample(4, 50)
    for step in range(3):
        part = latents + step
        one.update(one(part).statistics)
        two.update(merge_statistics([two(part[:1]).statistics, two(part[1:]).statistics]))
    for key, value in everything(one).items():
        torch.testing.assert_close(everything(two)[key], value, rtol=1e-5, atol=1e-6)


@each_config
def test_padding_changes_nothing(changes: dict[str, Any]) -> None:
    vq, latents = quantizer(**changes).train(), sample(1, 50)
    padded = torch.cat([latents, torch.full((1, 6, 30), 1e3)], 2)
    alone, out = vq(latents), vq(padded, mask=torch.arange(80)[None] < 50)
    assert torch.equal(out.codes[:, :, :50], alone.codes)
    for key, value in alone.losses.items():
        torch.testing.assert_close(out.losses[key], value)
    for key, value in alone.statistics.items():
        torch.testing.assert_close(out.statistics[key], value)


@each_config
def test_a_step_without_vectors_changes_nothing(changes: dict[str, Any]) -> None:
    vq = quantizer(**changes).train()
    before = {key: value.clone() for key, value in everything(vq).items()}
    out = vq(sample(), mask=torch.zeros(3, 200, dtype=torch.bool))
    assert torch.stack([value.isfinite() for value in out.losses.values()]).all()
    vq.update(out.statistics)
    assert all(torch.equal(everything(vq)[key], value) for key, value in before.items())


@pytest.mark.parametrize(
    "learning", [EMALearning(expire_below=0.003), GradientLearning(expire_below=0.003)], ids=["ema", "grad"]
)
def test_half_of_a_book_is_revived_within_one_update_and_stays(
    learning: EMALearning | GradientLearning,
) -> None:
    vq, latents = quantizer(codebook_size=256, learning=learning).train(), sample()
    dead = torch.arange(0, 256, 2)
    with torch.no_grad():
        vq.book[dead] = 100.0
    vq.follow_book()
    vq.counts[dead] = 1e-4
    vq.update(vq(latents).statistics)
    assert vq.book[dead].abs().max() < 10
    assert among(vq.book[dead], rows(latents))
    assert vq.book[dead].unique(dim=0).shape[0] == 128
    assert (vq.counts[dead] > learning.expire_below).all()
    revived = vq.book[dead].clone()
    vq.update(vq(latents).statistics)
    assert (vq.counts[dead] > learning.expire_below).all()
    assert torch.bincount(vq(latents).codes.flatten(), minlength=256)[dead].ne(0).all()
    # Neither killed at once nor pinned: averages move on from where the entry restarted.
    assert isinstance(learning, GradientLearning) or not torch.equal(vq.book[dead], revived)


def test_a_high_threshold_spares_the_entries_of_a_new_book() -> None:
    vq = quantizer(learning=EMALearning(decay=0.99, expire_below=2.0)).train()
    vq.initialize(rows(sample()), generator=torch.Generator().manual_seed(0))
    out = vq(sample())
    vq.update(out.statistics)
    assert float(vq.counts.min()) > 2.0
    expected = out.statistics["sum_vectors"] / out.statistics["sum_counts"][:, None].clamp(min=1)
    torch.testing.assert_close(vq.book, expected, rtol=0, atol=0.1)


def test_an_unused_entry_stays_where_it_is_for_ever() -> None:
    vq = quantizer(learning=EMALearning(decay=0.5, expire_below=0.0)).train()
    vq.book[3] = 100.0
    vq.follow_book()
    statistics = vq(sample()).statistics
    for _ in range(400):
        vq.update(statistics)
    assert vq.book.isfinite().all()
    torch.testing.assert_close(vq.book[3], torch.full((6,), 100.0))
    back = torch.full((1, 6, 9), 90.0)
    vq.update(vq(back).statistics)
    torch.testing.assert_close(vq.book[3], torch.full((6,), 90.0))


def test_online_clustering_moves_entries_by_their_use() -> None:
    vq = quantizer(clustering=OnlineClustering(sharpness=2.0), learning=GradientLearning(decay=0.0))
    latents, before = sample(), vq.book.detach().clone()
    statistics = vq.train()(latents).statistics
    vq.update(statistics)
    share = statistics["sum_counts"] / 600
    moved = torch.exp(-2.0 * 32 * share - 1e-3)
    anchors = statistics["candidates"]
    torch.testing.assert_close(vq.book.detach(), torch.lerp(before, anchors, moved[:, None]))
    assert among(anchors, rows(latents))


def test_online_clustering_moves_what_wins_nothing_from_the_first_step_on() -> None:
    vq = quantizer(clustering=OnlineClustering(), learning=GradientLearning(decay=0.99))
    far = vq.book.detach() + 50
    vq.set_book(torch.cat([vq.book.detach()[:16], far[:16]]))
    before = vq.book.detach().clone()
    vq.update(vq.train()(sample()).statistics)
    moved = (vq.book.detach() - before).norm(dim=1)
    assert (moved[16:] > 50).all() and (moved[:16] < 50).all()


def test_book_starts_from_k_means() -> None:
    vq, latents = quantizer(), sample()
    before = (vq(latents).latents - latents).square().mean()
    vq.initialize(rows(latents), generator=torch.Generator().manual_seed(3))
    assert (vq(latents).latents - latents).square().mean() < 0.75 * before
    again = quantizer()
    again.initialize(rows(latents), generator=torch.Generator().manual_seed(3))
    assert torch.equal(again.book, vq.book)
    few = quantizer()
    few.initialize(rows(latents)[:5], generator=torch.Generator().manual_seed(3))
    assert few.book.isfinite().all()


def test_weights_that_are_loaded_are_not_undone_by_the_next_update() -> None:
    trained = quantizer()
    trained.set_book(trained.book + 7.0)
    new = quantizer(learning=EMALearning(decay=0.999))
    new.load_state_dict(trained.state_dict())
    new.train().update(new(sample() + 7.0).statistics)
    assert (new.book - trained.book).abs().max() < 0.5


# Regularizers


def test_orthogonality_is_the_mean_squared_cosine() -> None:
    book = torch.randn(20, 6, dtype=torch.float64)
    cosines = torch.nn.functional.cosine_similarity(book[:, None], book[None], dim=2)
    expected = cosines.square().sum() / 400 - 1 / 20
    torch.testing.assert_close(orthogonality(book), expected)
    torch.testing.assert_close(orthogonality(torch.eye(6)), torch.zeros(()))


def test_entropy_penalty_is_what_its_formula_says() -> None:
    vq = quantizer(entropy=EntropyPenalty(sample=0.3, batch=0.7, temperature=2.0))
    latents = sample()
    assignments = torch.softmax(-torch.cdist(rows(latents), vq.book).square() / 2.0, 1)
    single = -(assignments * assignments.log()).sum(1).mean()
    mean = assignments.mean(0)
    expected = 0.3 * single + 0.7 * (mean * mean.log()).sum()
    torch.testing.assert_close(vq(latents).losses["entropy"], expected)
    far = torch.tensor([[0.0, 1e6]], requires_grad=True)
    entropy_penalty(far, EntropyPenalty()).backward()
    assert far.grad is not None and far.grad.isfinite().all()


# Configuration and state


def test_state_is_the_book_and_the_projections() -> None:
    assert list(quantizer().state_dict()) == ["book"]
    assert list(quantizer(learning=GradientLearning()).state_dict()) == ["book"]
    assert sorted(quantizer(codebook_dim=4).state_dict()) == [
        "book",
        "project_in.bias",
        "project_in.weight",
        "project_out.bias",
        "project_out.weight",
    ]
    assert [name for name, _ in quantizer().named_parameters()] == []


@each_config
def test_configuration_survives_plain_values(changes: dict[str, Any]) -> None:
    config = VectorConfig(**changes)
    assert from_dict(VectorConfig, to_dict(config)) == config


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"codebook_size": 1}, "codebook_size is 1, expected at least 2"),
        ({"codebook_dim": 0}, "codebook_dim is 0"),
        ({"orthogonal": 1.0}, "expected learning of the kind gradient"),
        ({"learning": {"kind": "ema", "decay": 1.0}}, "decay is 1.0"),
        ({"learning": {"kind": "ema", "expire_below": -1.0}}, "expire_below is -1.0"),
        ({"learning": {"kind": "ema", "smoothing": -1.0}}, "smoothing is -1.0"),
        ({"learning": {"kind": "adam"}}, "'ema', 'gradient'"),
        ({"entropy": {"temperature": 0.0}}, "temperature is 0.0"),
        ({"clustering": {"sharpness": 0.0}}, "sharpness is 0.0"),
    ],
)
def test_impossible_configuration_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        from_dict(VectorConfig, {"kind": "vector", **changes})


def test_two_books_are_refused() -> None:
    with pytest.raises(ValueError, match="num_codebooks is 2, expected one of 1"):
        quantizer().encode(sample(), num_codebooks=2)


@pytest.mark.parametrize("metric", ["cosine", "sphere"])
def test_an_entry_without_direction_is_at_a_right_angle_and_a_vector_without_one_has_the_code_0(
    metric: str,
) -> None:
    made = VectorQuantizer(2, VectorConfig(codebook_size=3, metric=metric))
    with torch.no_grad():
        made.book.copy_(torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.6, 0.8]]))
    latents = torch.tensor([[3.0, 1.0], [-0.1, 1.0], [-1.0, -0.5], [0.0, 0.0]]).mT[None]
    assert made.encode(latents).tolist() == [[[0, 2, 1, 0]]]
    assert made(latents).codes.tolist() == [[[0, 2, 1, 0]]]

"""Implicit neural books: plain RQ as a special case, exact codes, bounded memory."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from audiotokens.quantizers import QINCoConfig, QINCoQuantizer, RVQConfig, VectorConfig, build_quantizer


def quantizer(**changes: Any) -> QINCoQuantizer:
    torch.manual_seed(0)
    config = QINCoConfig(**{"num_codebooks": 4, "codebook_size": 16, "hidden": 8, **changes})
    return QINCoQuantizer(6, config)


def awake(**changes: Any) -> QINCoQuantizer:
    """A quantizer whose networks do something."""
    found = quantizer(**changes)
    with torch.no_grad():
        for parameter in found.networks.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape))
    return found.eval()


def latents(items: int = 2, frames: int = 50) -> Tensor:
    return torch.randn(items, 6, frames, generator=torch.Generator().manual_seed(1))


def test_untrained_networks_make_plain_residual_quantization() -> None:
    qinco, data = quantizer().eval(), latents()
    qinco.initialize(data.mT.reshape(-1, 6), generator=torch.Generator().manual_seed(0))
    plain = build_quantizer(RVQConfig(num_codebooks=4, inner=VectorConfig(codebook_size=16)), 6).eval()
    plain.load_state_dict({f"levels.{level}.book": book.detach() for level, book in enumerate(qinco.books)})
    codes = plain.encode(data)
    assert torch.equal(qinco.encode(data), codes)
    assert torch.equal(qinco(data).codes, codes)
    torch.testing.assert_close(qinco.decode(codes), plain.decode(codes))


def test_each_code_is_the_nearest_of_the_entries_behind_the_sum_so_far() -> None:
    qinco, data = awake(), latents()
    codes = qinco.encode(data)
    before = torch.zeros_like(data)
    for level in range(4):
        every = torch.arange(16)
        for item in range(2):
            for frame in range(0, 50, 7):
                sums = before[item, :, frame].expand(16, -1).double()
                errors = data[item, :, frame] - sums - qinco.entries(level, every, sums)
                assert int(errors.square().sum(1).argmin()) == int(codes[item, level, frame])
        before = qinco.decode(codes[:, : level + 1])
    assert torch.equal(qinco.encode(data, num_codebooks=2), codes[:, :2])


def test_codes_do_not_depend_on_the_batch_and_the_lowest_equal_entry_wins() -> None:
    qinco, data = awake(), latents(3, 67)
    with torch.no_grad():
        for book in qinco.books:
            book[8:] = book[:8]
    codes = qinco.encode(data)
    assert int(codes.max()) < 8
    for frames in (1, 5, 64):
        assert torch.equal(qinco.encode(data[1:2, :, :frames]), codes[1:2, :, :frames])


def test_losses_train_every_network_and_gradients_pass_straight_through() -> None:
    qinco, data = awake().train(), latents().requires_grad_()
    out = qinco(data)
    weight = torch.randn_like(data)
    (straight,) = torch.autograd.grad((out.latents * weight).sum(), data, retain_graph=True)
    torch.testing.assert_close(straight, weight)
    out.losses["codebook"].backward(retain_graph=True)
    assert data.grad is None
    assert all(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in qinco.parameters())
    out.losses["commitment"].backward()
    by_hand = 0.25 * 2 * (data - out.latents).detach() / data.numel()
    torch.testing.assert_close(data.grad, by_hand)


def test_losses_are_sums_over_the_levels_and_training_lowers_them() -> None:
    qinco, data = quantizer(), latents(4, 100)
    qinco.initialize(data.mT.reshape(-1, 6), generator=torch.Generator().manual_seed(0))
    optimizer = torch.optim.Adam(qinco.parameters(), lr=1e-2)
    first = qinco(data)
    errors = [(data - qinco.decode(first.codes[:, :k])).square().mean() for k in (1, 2, 3, 4)]
    torch.testing.assert_close(first.losses["codebook"], torch.stack(errors).sum())
    for _ in range(40):
        optimizer.zero_grad()
        qinco(data).losses["codebook"].backward()
        optimizer.step()
    assert qinco(data).losses["codebook"] < 0.98 * first.losses["codebook"]


def test_items_use_their_own_number_of_books_and_padding_changes_nothing() -> None:
    qinco, data = awake().train(), latents(3)
    number = torch.tensor([1, 4, 2])
    mask = torch.ones(3, 50, dtype=torch.bool)
    mask[1, 20:] = False
    out = qinco(data, num_codebooks=number, mask=mask)
    for item, books in enumerate(number.tolist()):
        expected = qinco.decode(out.codes[item : item + 1, :books])
        torch.testing.assert_close(out.latents[item : item + 1], expected)
    noisy = data.clone()
    noisy[1, :, 20:] = 100.0
    again = qinco(noisy, num_codebooks=number, mask=mask)
    for name, loss in out.losses.items():
        torch.testing.assert_close(again.losses[name], loss)


class LargestTensor(TorchDispatchMode):
    """Remembers how many numbers the largest tensor made inside it has."""

    numbers = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        if isinstance(made, Tensor):
            self.numbers = max(self.numbers, made.numel())
        return made


def test_memory_does_not_grow_with_vectors_times_entries() -> None:
    qinco = awake(num_codebooks=2, codebook_size=256, hidden=32)
    with LargestTensor() as watched:
        qinco.encode(torch.randn(1, 6, 1000))
    assert watched.numbers <= 1 << 21 < 1000 * 256 * 32


def test_autocast_does_not_change_the_codes() -> None:
    qinco, data = awake(), latents()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = qinco(data)
    assert torch.equal(inside.codes, qinco(data).codes) and inside.latents.dtype == torch.float32


def test_impossible_configuration_is_refused() -> None:
    with pytest.raises(ValueError, match="codebook_size is 1, expected at least 2"):
        QINCoConfig(codebook_size=1)
    with pytest.raises(ValueError, match="num_codebooks is 5"):
        quantizer().encode(latents(), num_codebooks=5)

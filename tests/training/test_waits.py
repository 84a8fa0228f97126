"""A step of training asks a GPU for nothing that the host would have to wait for."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from audiotokens.config import from_dict
from audiotokens.quantizers import VectorConfig
from audiotokens.quantizers.regularizers import OnlineClustering
from audiotokens.quantizers.residual import ResidualQuantizer, RVQConfig
from audiotokens.training.build import build_codec
from audiotokens.training.config import AdversarialConfig, Recipe
from audiotokens.training.data import PackedAudio
from audiotokens.training.trainer import Trainer

pytestmark = pytest.mark.usefixtures("one_thread")

# Their results, or the shapes of their results, are read by the host.
WAITING = {"_local_scalar_dense", "bincount", "equal", "masked_select", "nonzero", "unique_dim", "_unique2"}


class Waits(TorchDispatchMode):
    """Counts operations that make the host wait where tensors are on a GPU."""

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()

    def __torch_dispatch__(
        self, function: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        name = function.overloadpacket.__name__  # type: ignore[attr-defined]
        if name in WAITING:
            self.found[name] += 1
        if name.startswith("index") and isinstance(args[1], (list, tuple)):
            self.found["mask"] += any(part is not None and part.dtype == torch.bool for part in args[1])
        if name == "lift_fresh" and args[0].numel() > 1:
            self.found["from the host"] += 1
        return function(*args, **(kwargs or {}))


def test_what_makes_the_host_wait_is_seen() -> None:
    with Waits() as waits:
        x = torch.arange(3.0) + torch.tensor([1.0, 2.0, 3.0])
        x[[0, 2]] = x[x > 2].sum() + float(x[0])
        torch.bincount(x.long())
    assert waits.found == {"_local_scalar_dense": 1, "bincount": 1, "mask": 1, "from the host": 2}


INNER = {
    "plain": VectorConfig(codebook_size=16),
    "angles": VectorConfig(codebook_size=16, metric="cosine"),
    "clustering": VectorConfig(codebook_size=16, clustering=OnlineClustering()),
}


@pytest.mark.parametrize("inner", INNER.values(), ids=INNER)
def test_residual_books_learn_without_waiting(inner: VectorConfig) -> None:
    torch.manual_seed(0)
    rvq = ResidualQuantizer(6, RVQConfig(num_codebooks=3, inner=inner, prefix_offsets=True)).train()
    latents, used = torch.randn(4, 6, 20, requires_grad=True), torch.tensor([1, 3, 2, 1])
    rvq.update(rvq(latents, num_codebooks=used).statistics)
    with Waits() as waits:
        out = rvq(latents, num_codebooks=used)
        (out.latents.sum() + torch.stack(list(out.losses.values())).sum()).backward()
        rvq.update(out.statistics)
    # Each level asks once whether entries of its book are equal.
    assert {name: number for name, number in waits.found.items() if number} == {"_local_scalar_dense": 3}


def test_a_step_of_the_trainer_does_not_wait(pack_file: PackedAudio, recipe: Recipe, tmp_path: Path) -> None:
    adversarial = {
        "start": 6,
        "alone": 0,
        "ramp": 1,
        "discriminators": [
            {"kind": "stft", "windows": [64], "channels": 4, "spectrum": "compressed"},
            {"kind": "period", "periods": [3], "channels": [4, 6]},
        ],
    }
    recipe = dataclasses.replace(recipe, log_every=100, adversarial=from_dict(AdversarialConfig, adversarial))
    torch.manual_seed(0)
    trainer = Trainer(build_codec(recipe), recipe, pack_file, tmp_path, device=torch.device("cpu"))
    for _ in range(8):
        trainer.train_step()
    with Waits() as waits:
        trainer.train_step()
    # The crops and their numbers of books come from the host; one question for each of four books.
    found = {name: number for name, number in waits.found.items() if number}
    assert found == {"from the host": 2, "_local_scalar_dense": 4}

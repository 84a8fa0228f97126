"""Weight norm folded, keys renamed, and a sentence for every tensor that does not fit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, weight_norm

from audiotokens.architectures.reference import Reference
from audiotokens.checkpoints import MismatchError, convert, fold_weight_norm, match
from audiotokens.checkpoints.conversion import rename
from audiotokens.errors import CheckpointError

if TYPE_CHECKING:
    from toy_codec import ToyCodec

MODULES = {
    "convolution": lambda: nn.Conv1d(3, 4, 5),
    "transposed": lambda: nn.ConvTranspose1d(3, 4, 5),
    "grouped": lambda: nn.Conv1d(6, 6, 3, groups=6),
    "linear": lambda: nn.Linear(3, 4),
}


@pytest.mark.parametrize("kind", MODULES)
@pytest.mark.parametrize("spelling", ["old", "parametrized"])
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_both_spellings_of_weight_norm_fold_to_the_weight(kind: str, spelling: str) -> None:
    plain = MODULES[kind]()
    normed = weight_norm(plain) if spelling == "old" else parametrizations.weight_norm(plain)
    with torch.no_grad():
        for parameter in normed.parameters():
            parameter.mul_(1.7)
    folded = fold_weight_norm(nn.Sequential(normed).state_dict())
    assert folded.keys() == {"0.weight", "0.bias"}
    assert parametrize.is_parametrized(normed) == (spelling == "parametrized")
    normed(torch.zeros(1, *((3,) if kind == "linear" else (normed.in_channels, 9))))
    torch.testing.assert_close(folded["0.weight"], normed.weight.detach(), rtol=1e-5, atol=1e-7)


def test_halves_that_miss_or_do_not_go_together() -> None:
    with pytest.raises(CheckpointError, match="a.weight_g is missing beside a.weight_v"):
        fold_weight_norm({"a.weight_v": torch.ones(2, 3)})
    with pytest.raises(
        CheckpointError, match=r"a.weight_g has the shape \[3, 1\], which does not go with \[2, 3\]"
    ):
        fold_weight_norm({"a.weight_v": torch.ones(2, 3), "a.weight_g": torch.ones(3, 1)})
    with pytest.raises(CheckpointError, match="does not go with"):
        fold_weight_norm({"a.weight_v": torch.ones(()), "a.weight_g": torch.ones(1)})


def test_a_state_dict_becomes_the_codec_again(toy: ToyCodec, stored: dict[str, Tensor]) -> None:
    again = convert(type(toy), stored, toy.config)
    for name, tensor in toy.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], tensor, rtol=1e-6, atol=1e-7)
    assert again.weight_bits == 32


def test_half_precision_becomes_single(toy: ToyCodec, stored: dict[str, Tensor]) -> None:
    halved = {name: tensor.bfloat16() for name, tensor in stored.items()}
    assert {t.dtype for t in convert(type(toy), halved, toy.config).state_dict().values()} == {torch.float32}


def test_every_problem_is_named(toy: ToyCodec, stored: dict[str, Tensor]) -> None:
    damaged = dict(stored)
    bias = "model.encoder_net.blocks.2.linear.bias"
    wrong = "model.decoder_net.blocks.0.linear.bias"
    assert {bias, wrong} <= damaged.keys()
    integer = next(key for key in damaged if key.endswith(".bias") and key not in (bias, wrong))
    del damaged[bias]
    damaged[wrong] = damaged[wrong][:-1]
    damaged[integer] = damaged[integer].long()
    damaged["model.encoder_net.blocks.99.bias"] = torch.ones(1)
    damaged["quite.other"] = torch.ones(1)
    with pytest.raises(MismatchError) as caught:
        convert(type(toy), damaged, toy.config)
    problems = caught.value.problems
    assert len(problems) == 5
    assert str(caught.value).startswith("5 tensors do not fit toy: ")
    assert "\n" not in str(caught.value)
    assert "encoder_net.blocks.2.linear.bias is missing" in problems
    assert f"{wrong} (here decoder_net.blocks.0.linear.bias) has the shape [15], expected [16]" in problems
    assert any(problem.startswith(integer) and "holds torch.int64" in problem for problem in problems)
    assert "model.encoder_net.blocks.99.bias (here encoder_net.blocks.99.bias) is left over" in problems
    assert "quite.other is unknown" in problems


def test_many_problems_are_counted(toy: ToyCodec) -> None:
    with pytest.raises(MismatchError, match=r"; .*; .* and \d+ more$") as caught:
        convert(type(toy), {"x": torch.ones(1)}, toy.config)
    assert len(caught.value.problems) > 8


def test_two_keys_for_one_tensor(toy: ToyCodec, stored: dict[str, Tensor]) -> None:
    twice = {**stored, "decoder_net.blocks.0.linear.bias": torch.zeros(16)}
    with pytest.raises(
        MismatchError, match="decoder_net.blocks.0.linear.bias is a second decoder_net.blocks.0.linear.bias"
    ):
        convert(type(toy), twice, toy.config)


def test_what_rework_lacks_is_named(toy: ToyCodec) -> None:
    def needs(tensors: dict[str, Tensor], config: object) -> dict[str, Tensor]:
        return {"w": tensors["sum"] / tensors["count"]}

    reference = Reference(read_config=dict, rules=((r"(sum|count)", r"\1"),), rework=needs)
    expected = {"w": torch.ones(2)}
    assert match(expected, {"sum": torch.ones(2)}, reference, None).problems == ("count is missing",)
    wrong = match(expected, {"sum": torch.ones(2), "count": torch.ones(3)}, reference, None)
    assert any("size of tensor" in problem for problem in wrong.problems)


def test_renaming_tells_what_no_rule_knows() -> None:
    reference = Reference(read_config=dict, rules=((r"a\.(.*)", r"b.\1"),), ignored=(r"drop.*",))
    one = torch.ones(1)
    assert rename({"a.x": one, "dropped": one, "other": one}, reference) == ({"b.x": one}, ["other"])

"""Causal transformers over a window of the past, as steps (Vaswani et al. 2017, with the changes below).

    x <- x + s1 * A(norm1(x));    x <- x + s2 * W2 gelu(W1 norm2(x))

with pre-norm layers, learned scales s (LayerScale, Touvron et al. 2021), rotary positions and no biases. Step
t attends to the W steps t - W + 1 .. t:

    A(x)_t = O concat_h sum_j softmax_j(R(q_t) . R(k_j) / sqrt(d)) v_j

The state holds the W - 1 last keys, rotated, their values, and the number of steps so far. With those of the
n steps of a piece, that is what the first of these steps reads, and the last. (A ring of W keys would lose
the oldest that the first one reads.) From the start the state has its full size, so that streams of any age
go through one call: keys that no step has given are zero, and masked. Positions count on without end, and
angles are computed in float64, so that no digits are lost in long streams.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from audiotokens.nn.block import Block, Pointwise, Reach, Residual, Sequential, State
from audiotokens.nn.kernels import apply_linear
from audiotokens.nn.layers import GELU, ChannelScale, LayerNorm, Linear
from audiotokens.nn.products import TERMS, applies, attention
from audiotokens.nn.rotary import RotaryLayout, rotate

# Queries that are taken at once: memory grows with this times the window, not with the square of the length.
_QUERIES = 128


@dataclass(frozen=True)
class TransformerConfig:
    """A causal transformer.

    Args:
        layers: number of layers.
        width: channels of input and output.
        heads: attention heads.
        hidden: inner width of the feed-forward parts.
        window: steps W that a step attends to, itself included; None: all of the past.
        head_width: channels d of a head; None: width / heads.
        key_heads: heads of keys and values, each shared by heads / key_heads heads; None: heads.
        rotary: which channels of a head turn together; None: no positions.
        rotary_base: of the frequencies of the rotation.
        layer_scale: start of the scales on both branches; None: no scales.
        norm_eps: epsilon of the norms.
        output_norm: whether a norm follows the last layer.
    """

    layers: int
    width: int
    heads: int
    hidden: int
    window: int | None = None
    head_width: int | None = None
    key_heads: int | None = None
    rotary: RotaryLayout | None = "interleaved"
    rotary_base: float = 10000.0
    layer_scale: float | None = 0.01
    norm_eps: float = 1e-5
    output_norm: bool = False

    def __post_init__(self) -> None:
        for name in ("layers", "width", "heads", "hidden"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected at least 1")
        if self.window is not None and self.window < 1:
            raise ValueError(f"window is {self.window}, expected at least 1 or null")
        if self.head_width is None and self.width % self.heads:
            raise ValueError(f"width is {self.width}, expected a multiple of heads, {self.heads}")
        if self.heads % (self.key_heads or self.heads):
            raise ValueError(f"heads is {self.heads}, expected a multiple of key_heads, {self.key_heads}")
        if self.rotary and self.channels_of_head % 2:
            raise ValueError(f"a head has {self.channels_of_head} channels, expected an even number")

    @property
    def channels_of_head(self) -> int:
        """Channels d of a head."""
        return self.head_width or self.width // self.heads


def transformer(config: TransformerConfig) -> Sequential:
    """Layers over `[B, width, T]`: blocks 1.i; block 0 changes the order in memory, 2.0 is the output norm.

    A layer is two residuals, around (norm, attention[, scale]) and (norm, linear, GELU, linear[, scale]).
    """
    layers = [_layer(config) for _ in range(config.layers)]
    norm = [LayerNorm(config.width, eps=config.norm_eps)] if config.output_norm else []
    return Sequential(FramesFirst(), Sequential(*layers), Sequential(*norm))


def _layer(config: TransformerConfig) -> Sequential:
    def branch(*blocks: Block) -> Residual:
        start = config.layer_scale
        scale = [] if start is None else [ChannelScale(config.width, start=start)]
        return Residual(Sequential(LayerNorm(config.width, eps=config.norm_eps), *blocks, *scale))

    return Sequential(
        branch(Attention(config)),
        branch(
            Linear(config.width, config.hidden, bias=False),
            GELU(),
            Linear(config.hidden, config.width, bias=False),
        ),
    )


class FramesFirst(Pointwise):
    """The same values `[B, C, T]`, in memory frame by frame, as norms and linear maps read them."""

    def map(self, x: Tensor) -> Tensor:
        return x.mT.contiguous().mT


class Attention(Block):
    """Causal self-attention over the last `window` steps of `[B, width, T]`; see the module's text.

    The rows of the input map are the queries of all heads, then the keys, then the values.
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.heads, self.key_heads = config.heads, config.key_heads or config.heads
        self.head_width = config.channels_of_head
        rows = (self.heads + 2 * self.key_heads) * self.head_width
        self.input = nn.Linear(config.width, rows, bias=False)
        self.output = nn.Linear(self.heads * self.head_width, config.width, bias=False)

    @property
    def reach(self) -> Reach:
        return Reach(past=math.inf if self.config.window is None else self.config.window - 1)

    @property
    def same_bits(self) -> bool:  # type: ignore[override]
        return self.config.window is not None and self.config.window <= TERMS

    def initial_state(self, batch: int, *, like: Tensor) -> State:
        kept = (self.config.window or 1) - 1
        keys = like.new_zeros(batch, self.key_heads, self.head_width, kept)
        return keys, keys.mT.contiguous(), torch.zeros(batch, dtype=torch.long, device=like.device)

    def step(self, x: Tensor, state: State, *, final: bool = False) -> tuple[Tensor, State]:
        if not x.shape[2]:
            return x, state
        sizes = (self.heads, self.key_heads, self.key_heads)
        rows = apply_linear(self.input, x.mT)
        query, key, value = rows.unflatten(2, (-1, self.head_width)).transpose(1, 2).split(sizes, 1)
        count = state[2]
        query, key = self._rotated(query, count), self._rotated(key, count)
        # Keys lie as the product with the queries reads them.
        keys, values = torch.cat([state[0], key.mT], 3), torch.cat([state[1], value], 2)
        y = self._attend(query, keys, values, count).transpose(1, 2).flatten(2)
        window = self.config.window
        start = 0 if window is None else max(values.shape[2] - window + 1, 0)
        state = keys[..., start:], values[:, :, start:], count + x.shape[2]
        return apply_linear(self.output, y).mT, state

    def _rotated(self, vectors: Tensor, count: Tensor) -> Tensor:
        """Vectors `[B, H, n, d]` of the steps after the first `count` ones `[B]`."""
        if self.config.rotary is None:
            return vectors
        positions = count[:, None, None] + torch.arange(vectors.shape[2], device=count.device)
        return rotate(vectors, positions, base=self.config.rotary_base, layout=self.config.rotary)

    def _attend(self, query: Tensor, keys: Tensor, values: Tensor, count: Tensor) -> Tensor:
        """Outputs `[B, H, n, d]` of n steps.

        The keys are `[B, H', d, P + n]` and the values `[B, H', P + n, d]`, those of the n steps last. Of the
        others the last `count` `[B]` are those of steps.
        """
        if self.key_heads != self.heads:
            keys = keys.repeat_interleave(self.heads // self.key_heads, 1)
            values = values.repeat_interleave(self.heads // self.key_heads, 1)
        absent = values.shape[2] - query.shape[2] - count
        same = self.same_bits and applies(query) and query.dtype == torch.float32
        attend = attention if same else _attention
        parts = [
            attend(
                query[:, :, start : start + size],
                keys[..., first:end],
                values[:, :, first:end],
                self._mask(size, end - first, absent - first),
            )
            for start, size, first, end in self._pieces(query.shape[2], values.shape[2])
        ]
        return parts[0] if len(parts) == 1 else torch.cat(parts, 2)

    def _pieces(self, steps: int, total: int) -> Iterator[tuple[int, int, int, int]]:
        """Start and number of the queries of each piece, and the first key and the end of those they read."""
        window = self.config.window or total
        queries = min(_QUERIES, TERMS - window + 1) if self.same_bits else _QUERIES
        for start in range(0, steps, queries):
            size = min(queries, steps - start)
            end = total - steps + start + size
            yield start, size, max(end - size - window + 1, 0), end

    def _mask(self, size: int, keys: int, absent: Tensor) -> Tensor | None:
        """Which of the keys `[B, 1, size, keys]` each of as many last steps reads; None: all of them.

        The first `absent` `[B]` keys are those of no step.
        """
        window = self.config.window
        if size == 1 and window is None:
            return None
        steps = torch.arange(keys, device=absent.device)
        given = steps >= absent[:, None, None, None]
        if size == 1 and keys == window:
            return given
        distance = steps[keys - size :, None] - steps
        return given & (distance >= 0) & (distance < (window or keys))


def _attention(query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
    return functional.scaled_dot_product_attention(query, keys.mT, values, attn_mask=mask)

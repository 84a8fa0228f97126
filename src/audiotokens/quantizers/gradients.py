"""How gradients pass a quantizer: as if it were the identity, or as if it were a rotation.

Straight-through (Bengio et al. 2013): the gradient of q is given to z unchanged.

Rotation trick (Fifty et al. 2024): q = s R z with s = ||q|| / ||z|| and the rotation R that turns z in
the plane of z and q; s and R are constants of the backward pass, so z gets s R^T times the gradient of q.
With unit vectors u = z / ||z||, v = q / ||q|| and w = (u + v) / ||u + v||,
R z = z - 2 w (w . z) + 2 v (u . z).
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from torch import Tensor
from torch.nn import functional

Gradient: TypeAlias = Literal["straight-through", "rotation"]


def pass_gradient(vectors: Tensor, quantized: Tensor, gradient: Gradient) -> Tensor:
    """Exactly the values of `quantized` `[M, d]`, with gradients to `vectors` `[M, d]` only."""
    return straight_through(
        quantized, vectors if gradient == "straight-through" else rotate(vectors, quantized)
    )


def straight_through(quantized: Tensor, values: Tensor) -> Tensor:
    """Exactly `quantized`, with the gradient of `values`, of the same shape."""
    # x - x is exactly zero, q + (z - z) exactly q; z + (q - z) is not.
    return quantized.detach() + (values - values.detach())


def rotate(vectors: Tensor, quantized: Tensor) -> Tensor:
    """s R z: `quantized` up to rounding, as a linear function of `vectors`; both `[M, d]`.

    A vector or an entry of zero length has no direction: then R is the identity or a point reflection, and s
    is 0 for an entry of zero length.
    """
    fixed, target = vectors.detach(), quantized.detach()
    length = fixed.norm(dim=1, keepdim=True).clamp(min=1e-6)
    u, v = fixed / length, functional.normalize(target, dim=1)
    w = functional.normalize(u + v, dim=1)
    along_w = (vectors * w).sum(1, keepdim=True)
    along_u = (vectors * u).sum(1, keepdim=True)
    scale = target.norm(dim=1, keepdim=True) / length
    rotated: Tensor = (vectors - 2 * w * along_w + 2 * v * along_u) * scale
    return rotated

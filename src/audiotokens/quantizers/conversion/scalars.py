"""Classes of vector-quantize-pytorch with implicit books."""

from __future__ import annotations

from audiotokens.quantizers.bsq import BSQConfig
from audiotokens.quantizers.conversion.options import Options
from audiotokens.quantizers.conversion.state import Made, Tensors
from audiotokens.quantizers.fsq import FSQConfig
from audiotokens.quantizers.latent import LatentConfig
from audiotokens.quantizers.lfq import LFQConfig
from audiotokens.quantizers.residual import RVQConfig
from audiotokens.quantizers.residual_scalar import ResidualFSQConfig, ResidualLFQConfig

# The smallest probability in logarithms there.
_FLOOR = 1e-5


def fsq(options: Options, tensors: Tensors) -> Made:
    """FSQ."""
    levels, count = tuple(options.required("levels")), options.get("num_codebooks", 1)
    symmetric = options.get("preserve_symmetry", False)
    if not symmetric:
        options.only("bound_hard_clamp", False)
    hard = options.get("bound_hard_clamp", False)
    config = FSQConfig(
        levels=levels,
        num_codebooks=count,
        bound="clamp" if hard else "symmetric" if symmetric else "tanh",
    )
    return _mapped(options, tensors, Made(count * len(levels), config, {}))


def lfq(options: Options, tensors: Tensors) -> Made:
    """LFQ, and BSQ where it is spherical."""
    count = options.get("num_codebooks", 1)
    bits = _bits(options.get("codebook_size") or 2 ** options.required("dim"))
    tensors.skip("mask")
    config = _binary_config(options, bits, count, 1.0)
    return _mapped(options, tensors, Made(count * bits, config, {}))


def residual_fsq(options: Options, tensors: Tensors, share: float = 1.0) -> Made:
    """ResidualFSQ; it has no losses."""
    levels, count = tuple(options.required("levels")), options.required("num_quantizers")
    dim = options.get("dim", len(levels))
    options.only("num_codebooks", 1)
    options.get("projection_has_bias")
    if options.get("bound_hard_clamp", True):
        config = ResidualFSQConfig(levels=levels, num_codebooks=count, gradient="levels")
        return _with_maps(tensors, dim, Made(len(levels), config, {}))
    stack = RVQConfig(
        num_codebooks=count,
        inner=tuple(FSQConfig(levels=levels, bound="symmetric", depth=level) for level in range(count)),
        gradient="levels",
        commitment=0.0,
    )
    made = Made(len(levels), stack, {})
    return made if made.dim == dim else made.projected(dim, tensors.maps())


def residual_lfq(options: Options, tensors: Tensors, share: float = 1.0) -> Made:
    """ResidualLFQ, with `share` as a factor of its losses."""
    bits, count = _bits(options.required("codebook_size")), options.required("num_quantizers")
    options.only("num_codebooks", 1)
    options.only("spherical", False)
    options.get("projection_has_bias")
    tensors.skip("mask")
    inner = _binary_config(options, bits, 1, share)
    if not isinstance(inner, LFQConfig):
        raise ValueError("ResidualLFQ: spherical levels have no counterpart")
    config = ResidualLFQConfig(inner=inner, num_codebooks=count, gradient="levels")
    return _with_maps(tensors, options.required("dim"), Made(bits, config, {}))


def latent_quantize(options: Options, tensors: Tensors) -> Made:
    """LatentQuantize, whose two weights have each other's names."""
    levels, count = options.required("levels"), options.get("num_codebooks", 1)
    if isinstance(levels, int):
        levels = (levels,) * options.required("codebook_dim")
    else:
        options.only("codebook_dim", -1, len(levels))
    config = LatentConfig(
        levels=tuple(levels),
        num_codebooks=count,
        commitment=options.get("quantization_loss_weight", 0.1),
        codebook=options.get("commitment_loss_weight", 0.1),
        outer_losses=True,
    )
    state = tensors.named(*(f"values_per_latent.{i}" for i in range(len(levels))))
    return _with_maps(tensors, options.required("dim"), Made(count * len(levels), config, state))


def _binary_config(options: Options, bits: int, count: int, share: float) -> LFQConfig | BSQConfig:
    commitment = share * options.get("commitment_loss_weight", 0.0)
    entropy, diversity = share * options.get("entropy_loss_weight", 0.1), options.get("diversity_gamma", 1.0)
    if options.get("spherical", False):
        options.only("codebook_scale", 1)
        return BSQConfig(
            bits=bits,
            num_codebooks=count,
            commitment=commitment,
            entropy=entropy,
            diversity=diversity,
            joint_bits=None,
            floor=_FLOOR,
        )
    return LFQConfig(
        bits=bits,
        num_codebooks=count,
        commitment=commitment,
        entropy=entropy,
        diversity=diversity,
        floor=_FLOOR,
        scale=float(options.get("codebook_scale", 1.0)),
    )


def _bits(size: int) -> int:
    bits = int(size).bit_length() - 1
    if 1 << bits != size:
        raise ValueError(f"codebook_size is {size}, expected a power of 2")
    return bits


def _mapped(options: Options, tensors: Tensors, made: Made) -> Made:
    """With linear maps around it as `dim`, `has_projections` and `projection_has_bias` ask for."""
    dim, bias = options.get("dim", made.dim), options.get("projection_has_bias", True)
    options.only("has_projections", None, dim != made.dim, True)
    forced = dim == made.dim and options.get("has_projections", False)
    if forced or (dim != made.dim and not bias):
        return made.projected(dim, tensors.maps(bias=bias), bias=bias)
    return _with_maps(tensors, dim, made)


def _with_maps(tensors: Tensors, dim: int, made: Made) -> Made:
    """With the maps that the quantizer has itself where its latents have `dim` dimensions."""
    return made if dim == made.dim else Made(dim, made.config, {**made.state, **tensors.maps()})

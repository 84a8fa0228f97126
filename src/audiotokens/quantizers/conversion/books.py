"""Classes of vector-quantize-pytorch with books of vectors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from torch import Tensor

from audiotokens.quantizers.conversion.options import Options
from audiotokens.quantizers.conversion.state import Made, Tensors
from audiotokens.quantizers.grouped import GroupedConfig
from audiotokens.quantizers.qinco import QINCoConfig
from audiotokens.quantizers.random_projection import RandomProjectionConfig
from audiotokens.quantizers.residual import RVQConfig
from audiotokens.quantizers.simvq import SimVQConfig
from audiotokens.quantizers.vector import EMALearning, GradientLearning, VectorConfig


def vector_quantize(options: Options, tensors: Tensors) -> Made:
    """VectorQuantize; several heads are groups."""
    dim, heads = options.required("dim"), options.get("heads", 1)
    codebook_dim = options.get("codebook_dim", dim)
    separate = options.get("separate_codebook_per_head", False)
    config = _vector_config(options, dim, options.required("codebook_size"))
    stored = tensors.under("_codebook.")
    if heads == 1:
        state = _book(stored, config)
        if codebook_dim == dim:
            return Made(dim, config, state)
        return Made(dim, replace(config, codebook_dim=codebook_dim), {**state, **tensors.maps()})
    books = [_book(stored, config, head) for head in range(heads if separate else 1)]
    grouped = GroupedConfig(groups=heads, shared=not separate, inner=config)
    made = Made(heads * codebook_dim, grouped, _numbered("inner", books))
    return made if made.dim == dim else made.projected(dim, tensors.maps())


def residual_vq(options: Options, tensors: Tensors, share: float = 1.0) -> Made:
    """ResidualVQ, with `share` as a factor of its losses; QINCo where the books are implicit."""
    options.only("heads", 1)
    dim, size = options.required("dim"), options.required("codebook_size")
    codebook_dim = options.get("codebook_dim", dim)
    count = options.get("num_quantizers", 0)
    sizes = (size,) * count if isinstance(size, int) else tuple(size)
    if options.get("implicit_neural_codebook", False):
        made = _qinco(options, tensors, codebook_dim, sizes, share)
    else:
        made = _residual(options, tensors, codebook_dim, sizes, share)
    return made if codebook_dim == dim else made.projected(dim, tensors.maps())


def sim_vq(options: Options, tensors: Tensors) -> Made:
    """SimVQ."""
    weight = options.get("commitment_weight", 1.0)
    config = SimVQConfig(
        codebook_size=options.required("codebook_size"),
        frozen_dim=options.get("frozen_codebook_dim"),
        codebook_weight=weight,
        commitment=weight * options.get("input_to_quantize_commit_loss_weight", 0.25),
        gradient="rotation" if options.get("rotation_trick", True) else "straight-through",
    )
    state = {"frozen": tensors["frozen_codebook"], "transform.weight": tensors["code_transform.weight"]}
    return Made(options.required("dim"), config, state)


def residual_sim_vq(options: Options, tensors: Tensors) -> Made:
    """ResidualSimVQ."""
    options.only("heads", 1)
    levels = range(options.required("num_quantizers"))
    made = [sim_vq(options, tensors.under(f"layers.{level}.")) for level in levels]
    config = RVQConfig(num_codebooks=len(made), inner=made[0].config, gradient="levels", commitment=0.0)
    return Made(made[0].dim, config, _numbered("levels", [level.state for level in made]))


def random_projection(options: Options, tensors: Tensors) -> Made:
    """RandomProjectionQuantizer.

    Behind the projections of the paper it mixes all of them by a fixed affine map: one map in all.
    """
    dim, size = options.required("dim"), options.required("codebook_size")
    count, inner_dim = options.get("num_codebooks", 1), options.required("codebook_dim")
    _vector_config(options, dim, size)
    projections, books = tensors["rand_projs"].double(), tensors["vq._codebook.embed"]
    _check_unit(books)
    state = {"books": books}
    if count > 1:
        mixed = tensors["vq.project_in.weight"].double().view(count, count * inner_dim, -1)
        projections = projections.transpose(0, 1).flatten(1) @ mixed.mT
        state["offsets"] = tensors["vq.project_in.bias"].view(count, -1)
    tensors.under("vq.").skip("")
    config = RandomProjectionConfig(
        num_codebooks=count,
        codebook_size=size,
        codebook_dim=count * inner_dim,
        offsets=count > 1,
    )
    return Made(dim, config, {**state, "projections": projections})


def grouped(make: Callable[[Options, Tensors, float], Made]) -> Callable[[Options, Tensors], Made]:
    """Return what converts the grouped form of a class, whose losses are added over the groups."""

    def convert(options: Options, tensors: Tensors) -> Made:
        dim, groups = options.required("dim"), options.get("groups", 1)
        inner = options.replaced({"dim": dim // groups})
        # Here the losses are averaged over the groups.
        made = [make(inner, tensors.under(f"rvqs.{group}."), float(groups)) for group in range(groups)]
        config = GroupedConfig(groups=groups, inner=made[0].config)
        return Made(dim, config, _numbered("inner", [group.state for group in made]))

    return convert


def _vector_config(options: Options, dim: int, size: int, share: float = 1.0) -> VectorConfig:
    """Of a book over latents of `dim` dimensions, with `share` as a factor of its losses."""
    learned = options.get("learnable_codebook", False)
    options.only("ema_update", None, not learned)
    expire_below = options.get("threshold_ema_dead_code", 0)
    decay, smoothing = options.get("decay", 0.8), options.get("eps", 1e-5)
    commitment = share * options.get("commitment_weight", 1.0)
    learning: EMALearning | GradientLearning = EMALearning(
        decay=decay, smoothing=smoothing, expire_below=expire_below
    )
    if learned:
        # Their commitment loss moves latents and entries.
        learning = GradientLearning(codebook_weight=commitment, decay=decay, expire_below=expire_below)
    return VectorConfig(
        codebook_size=size,
        metric="sphere" if options.get("use_cosine_sim", False) else "euclidean",
        learning=learning,
        commitment=commitment,
        gradient="rotation" if options.get("rotation_trick", dim > 1) else "straight-through",
        orthogonal=share * options.get("orthogonal_reg_weight", 0.0),
    )


def _residual(options: Options, tensors: Tensors, dim: int, sizes: Sequence[int], share: float) -> Made:
    options.only("quant_grad_frac", 0, 1)
    shared = options.get("shared_codebook", False)
    inner = tuple(_vector_config(options, dim, size, share) for size in sizes)
    books = [_book(tensors.under(f"layers.{i}._codebook."), config) for i, config in enumerate(inner)]
    config = RVQConfig(
        num_codebooks=len(sizes),
        inner=inner[0] if shared else inner,
        shared=shared,
        shared_update="in-turn",
        gradient="chain" if options.get("quant_grad_frac", 0) else "levels",
        commitment=0.0,
    )
    return Made(dim, config, _numbered("levels", books[:1] if shared else books))


def _qinco(options: Options, tensors: Tensors, dim: int, sizes: Sequence[int], share: float) -> Made:
    for name in ("use_cosine_sim", "shared_codebook", "threshold_ema_dead_code", "orthogonal_reg_weight"):
        options.only(name, 0)
    options.only("quant_grad_frac", 0)
    if len(set(sizes)) > 1:
        raise ValueError(f"codebook_size is {tuple(sizes)}, expected one number for implicit neural books")
    network = options.get("mlp_kwargs", {})
    learned = options.replaced({"learnable_codebook": True, "ema_update": False})
    vector = _vector_config(learned, dim, sizes[0], share)
    config = QINCoConfig(
        num_codebooks=len(sizes),
        codebook_size=sizes[0],
        hidden=network.get("dim_hidden") or dim,
        blocks=network.get("depth", 4),
        activation="silu",
        shortcut=False,
        codebook_weight=vector.commitment,
        commitment=vector.commitment,
    )
    state = {}
    for level in range(len(sizes)):
        state[f"books.{level}"] = _book(tensors.under(f"layers.{level}._codebook."), vector)["book"]
    parts = [f"{layer}.{part}" for layer in (0, 2) for part in ("weight", "bias")]
    for level in range(len(sizes) - 1):
        stored, ours = tensors.under(f"mlps.{level}."), f"networks.{level}"
        state |= {f"{ours}.join.{part}": stored[f"proj_in.{part}"] for part in ("weight", "bias")}
        for block in range(config.blocks):
            state |= {f"{ours}.blocks.{block}.{part}": stored[f"layers.{block}.{part}"] for part in parts}
    return Made(dim, config, state)


def _book(tensors: Tensors, config: VectorConfig, head: int = 0) -> dict[str, Tensor]:
    """Book and moving averages of a head, by their names here."""
    if not bool(tensors["initted"].all()):
        raise ValueError("a book has not started (initted is False); run one training step there first")
    state = {"book": tensors["embed"][head], "counts": tensors["cluster_size"][head]}
    sums = tensors["embed_avg"][head]
    if config.metric == "sphere":
        _check_unit(state["book"])
    return {**state, "sums": sums} if isinstance(config.learning, EMALearning) else state


def _check_unit(book: Tensor) -> None:
    lengths = book.float().norm(dim=-1)
    if bool(((lengths - 1).abs() > 1e-3).logical_and(lengths > 1e-3).any()):
        raise ValueError(
            f"found an entry of length {float(lengths.max()):.3g}, expected unit vectors for use_cosine_sim"
        )


def _numbered(name: str, states: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """States of a list of quantizers as that of the whole."""
    return {f"{name}.{i}.{key}": value for i, state in enumerate(states) for key, value in state.items()}

"""Constructor arguments of vector-quantize-pytorch: what becomes of those that no configuration here has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

FREE: Mapping[str, str] = {
    **dict.fromkeys(
        ("channel_last", "channel_first", "is_channel_first", "accept_image_fmap", "accept_3d_fmap"),
        "latents are always [B, D, T]; flatten the places of an image into T",
    ),
    **dict.fromkeys(("keep_num_codebooks_dim", "return_indices"), "codes are always [B, K, T]"),
    "return_zeros_for_masked_padding": "padded frames get what other frames get",
    **dict.fromkeys(
        ("kmeans_init", "kmeans_iters", "sync_kmeans", "init_fn"), "the state dict has the books as they are"
    ),
    "sync_codebook": "all_reduce_statistics merges processes",
    **dict.fromkeys(
        ("quantize_dropout", "quantize_dropout_cutoff_index", "quantize_dropout_multiple_of"),
        "forward takes the number of books, one for each item if you like; every prefix can be decoded",
    ),
    **dict.fromkeys(("force_quantization_f32", "allowed_dtypes"), "the search always runs in float32"),
    "scale": "FSQ makes no use of it",
    **dict.fromkeys(
        ("sample_codebook_temp", "codebook_diversity_temperature", "directional_reparam_variance"),
        "belongs to an option that is refused",
    ),
    **dict.fromkeys(
        ("sync_affine_param", "affine_param_batch_decay", "affine_param_codebook_decay"),
        "belongs to affine_param, which is refused",
    ),
    "manual_in_place_optimizer_update": "belongs to in_place_codebook_optimizer, which is refused",
    "entropy_loss_offset": "belongs to experimental_softplus_entropy_loss, which is refused",
    "cosine_sim_project_in_scale": "belongs to cosine_sim_project_in, which is refused",
}
"""Options that may have any value, and why nothing depends on it here."""

FIXED: Mapping[str, tuple[Any, ...]] = {
    **dict.fromkeys(("beam_size", "eval_beam_size"), (None, 1)),
    **dict.fromkeys(
        (
            "beam_score_quantizer_weights", "codebook_transform", "in_place_codebook_optimizer",
            "orthogonal_reg_max_codes", "soft_clamp_input_value", "straight_through_activation", "vq_bridge",
        ),
        (None,),
    ),
    **dict.fromkeys(
        (
            "affine_param", "commitment_use_cross_entropy_loss", "cosine_sim_project_in", "diveq",
            "directional_reparam", "experimental_softplus_entropy_loss", "freeze_codebook",
            "layernorm_after_project_in", "manual_ema_update", "orthogonal_reg_active_codes_only",
            "orthogonal_rotation", "stochastic_sample_codes", "straight_through",
        ),
        (False,),
    ),
    **dict.fromkeys(("norm", "optimize_values", "route_gradients_to_input"), (True,)),
    **dict.fromkeys(("codebook_diversity_loss_weight", "noise_dropout", "sync_update_v"), (0,)),
    "frac_per_sample_entropy": (1,),
}  # fmt: skip
"""Options without a counterpart, and the values they may have. Leave one out to do without it.

A `beam_size` belongs to a call here: `encode(latents, search_width=beam_size, criterion="summed")`.
"""

_HINTS = {
    "beam_size": 'leave it out and give encode search_width and criterion="summed"',
    "eval_beam_size": 'leave it out and give encode search_width and criterion="summed"',
}


class Options:
    """Keyword arguments of one class, and which of them were asked for.

    Args:
        owner: name of the class.
        values: by name.
        used: names that were asked for, shared by all that `replaced` makes.
    """

    def __init__(self, owner: str, values: Mapping[str, Any], used: set[str] | None = None) -> None:
        self._owner, self._values = owner, values
        self._used: set[str] = set() if used is None else used

    def get(self, name: str, default: Any = None) -> Any:
        """Return the value of an option; None, and no value, mean the default."""
        self._used.add(name)
        value = self._values.get(name)
        return default if value is None else value

    def required(self, name: str) -> Any:
        """Return the value of an option that has no default."""
        value = self.get(name)
        if value is None:
            raise ValueError(f"{self._owner}: the option {name} is missing")
        return value

    def replaced(self, values: Mapping[str, Any]) -> Options:
        """Return these options with other values for some names."""
        return Options(self._owner, {**self._values, **values}, self._used)

    def only(self, name: str, *legal: Any) -> None:
        """Raise a ValueError where an option is given and has none of the legal values."""
        self._used.add(name)
        if name in self._values and not any(self._values[name] == value for value in legal):
            hint = _HINTS.get(name, "leave it out to do without")
            raise ValueError(
                f"{self._owner}: {name} is {self._values[name]}, which has no counterpart; "
                f"expected {' or '.join(map(str, legal))}; {hint}"
            )

    def finish(self) -> None:
        """Raise a ValueError for an option that nobody asked for and that matters, or is not known."""
        for name in self._values:
            if name in self._used or name in FREE:
                continue
            if name not in FIXED:
                raise ValueError(f'{self._owner}: found an unknown option "{name}"; check its name')
            self.only(name, *FIXED[name])

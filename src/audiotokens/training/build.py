"""From a recipe to an untrained codec."""

from __future__ import annotations

import importlib
from dataclasses import replace

from audiotokens.codec import Codec
from audiotokens.config import from_dict
from audiotokens.errors import ConfigError, NotOfferedError
from audiotokens.training.config import Recipe


def build_codec(recipe: Recipe) -> Codec:
    """Build the untrained codec that a recipe describes.

    Raises:
        ConfigError: unknown architecture, or a bad key in `codec`.
    """
    from audiotokens.registry import architectures

    if recipe.architecture not in architectures:
        known = ", ".join(sorted(architectures))
        raise ConfigError(f'recipe: unknown architecture "{recipe.architecture}"; known: {known}')
    module, _, attribute = architectures[recipe.architecture].partition(":")
    family = getattr(importlib.import_module(module), attribute)
    config = from_dict(family.config_class, recipe.codec, where="recipe.codec")
    texts = {"training_data": recipe.training_data, "weights_license": recipe.weights_license}
    codec = family(config, spec=replace(family(config).spec, name=recipe.name, **texts))
    if not isinstance(codec, Codec):
        raise NotOfferedError(f'the architecture "{recipe.architecture}" cannot be trained here')
    return codec

"""The door to the import of published checkpoints; torch is imported when it is opened."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from audiotokens.errors import MissingExtraError

if TYPE_CHECKING:
    from audiotokens.tokenizer import Tokenizer

StrPath = str | os.PathLike[str]


def import_checkpoint(
    architecture: str,
    weights: StrPath | Sequence[StrPath],
    *,
    config: StrPath | Mapping[str, Any] | None = None,
    output: StrPath | None = None,
    name: str | None = None,
    force: bool = False,
    exact: bool = True,
) -> Tokenizer:
    """Import the checkpoint of a published codec or vocoder.

    Args:
        architecture: a family ("encodec"), one of its variants ("encodec-24khz"), or the name of a published
            checkpoint.
        weights: files as the authors published them (safetensors, what torch saved, .tflite), or the folder
            that holds them. Nothing in them is executed.
        config: a configuration in JSON or YAML: ours, the constructor arguments of the reference, or that of
            its model in transformers; or such arguments themselves; or the name of a variant. Default: what
            is stored with the weights, a config.json or config.yaml beside them, the variant, or the one that
            the shapes tell.
        output: folder to write; default: none is written.
        name: of the tokenizer; default: of the variant, or of the output folder.
        force: replace an existing tokenizer folder.
        exact: codes that do not depend on batch, chunking or threads, as `load` has it.

    Raises:
        ConfigError: unknown architecture, unusable configuration, no such file, or the output exists.
        CheckpointError: a file is damaged or refused, or tensors do not fit; the first are named.
        NotOfferedError: this torch cannot read pickled files safely.
        MissingExtraError: torch is not installed.

    Example:
        >>> import_checkpoint("dac-44khz", "weights.pth", output="dac")  # doctest: +SKIP
    """
    try:
        from audiotokens.checkpoints.engine import run_import
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "torch":
            raise MissingExtraError("Importing a checkpoint", "torch") from None
        raise
    files = [weights] if isinstance(weights, str | os.PathLike) else [*weights]
    done = run_import(architecture, files, config=config, output=output, name=name, force=force)
    model: Any = done.codec
    tokenizer: Tokenizer = model.make_exact(exact)
    return tokenizer

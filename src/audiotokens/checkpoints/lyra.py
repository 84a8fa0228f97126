"""Lyra V2's weights out of its TFLite graphs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from audiotokens.architectures.soundstream import read_graphs
from audiotokens.checkpoints.tflite import read_tflite
from audiotokens.config import to_dict

GRAPH_SUFFIX = ".tflite"
"""Names of files that hold graphs end with it."""


def read_lyra(paths: Sequence[Path]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors of the codec that the files make up, and its configuration as plain values.

    Args:
        paths: the encoder, the quantizer and the decoder, in any order and under any names.

    Raises:
        CheckpointError: a file is damaged, or the graphs are not those of Lyra V2.
    """
    config, tensors = read_graphs([graph for path in paths for graph in read_tflite(path)])
    return tensors, to_dict(config)

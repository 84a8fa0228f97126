"""A network that is kept in a tokenizer's folder: configuration, facts and weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from audiotokens import config as configuration
from audiotokens.codec.files import FORMAT_VERSION, fingerprint, read_description, read_weights, write_folder
from audiotokens.nn.block import Sequential
from audiotokens.nn.exact import run_exactly
from audiotokens.nn.storage import WeightBits, pack_tensors
from audiotokens.spec import Spec
from audiotokens.tokenizer import Exactness


class StoredModel(nn.Module):
    """Base of the networks that a folder holds; a subclass sets `_spec`, and is built from its arguments.

    Args:
        config: the family's configuration.
        spec: facts that the configuration does not imply (name, licence, data); rates and latency are
            computed.

    Attributes:
        weight_bits: how weights are saved: 32 in float32, 16 in float16, 8 with matrices and books in int8,
            a scale a row. Part of the fingerprint.
        exact: whether codes and samples are free of the effects of pieces, batches and threads.
        folder: where it was read from; None: it was built in memory.
    """

    architecture: ClassVar[str]
    block_seconds: ClassVar[int] = 1
    """Length of the pieces that long recordings are coded in: long enough for products of matrices, short
    enough for the caches of a processor where layers run at the sample rate."""
    config_class: ClassVar[type]
    reference: ClassVar[Any] = None
    """How published checkpoints are read, an `architectures.reference.Reference`; None: there are none."""
    _spec: Spec
    encoder_net: Sequential
    decoder_net: Sequential

    def __init__(self, config: Any, *, spec: Spec | None = None) -> None:
        super().__init__()
        self.config = config
        self.weight_bits: WeightBits = 16
        self.exact = False
        self._type = torch.float32
        self.folder: Path | None = None
        self._fingerprint: str | None = None

    @property
    def spec(self) -> Spec:
        """Facts about this model."""
        return self._spec

    @property
    def fingerprint(self) -> str:
        """Hexadecimal SHA-256 over architecture, configuration and stored weights."""
        if self._fingerprint is None:
            self._fingerprint = fingerprint(self.architecture, self.config, self.stored_tensors())
        return self._fingerprint

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    def make_exact(self, exact: Exactness = True) -> Self:
        """Make codes and samples free of the effects of pieces, batches and threads, or not. Returns self.

        Args:
            exact: True: in the cheapest way that works on this machine; "float64": codes are also those of
                other machines, for about twice the time; "arbitrated": those codes, where float64 decides
                near ties alone; False: no care is taken.

        Raises:
            NotOfferedError: near ties cannot be decided apart from the rest.
        """
        self.exact = bool(exact)
        self._type = run_exactly((self.encoder_net, self.decoder_net), exact)
        return self

    def stored_tensors(self) -> dict[str, Tensor]:
        """Weights as they are stored, so that a saved tokenizer is equal to itself; see `weight_bits`."""
        return pack_tensors(self.state_dict(), self.weight_bits)

    def counted(self) -> Spec:
        """Facts with counts of parameters and multiply-adds, where they can be counted."""
        return self.spec

    def save(self, folder: Path | str, *, card: str = "") -> Path:
        """Write `config.json`, `model.safetensors` and `README.md`; first count the multiply-adds."""
        folder = Path(folder)
        self._spec = self.counted()
        description = {
            "format": "audiotokens",
            "version": FORMAT_VERSION,
            "architecture": self.architecture,
            "config": configuration.to_dict(self.config),
            "spec": configuration.to_dict(self.spec),
        }
        card = card or f"# {self.spec.name}\n\nNo card was written for this tokenizer.\n"
        write_folder(folder, description, self.stored_tensors(), card)
        return folder

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Build what `save` wrote, with its weights.

        Raises:
            ConfigError: a key of config.json is unknown, missing or ill-typed.
            CheckpointError: a file is missing or damaged, or the weights do not fit the configuration.
        """
        description = read_description(folder)
        config: Any = configuration.from_dict(
            cls.config_class, description.get("config"), where="config.json: config"
        )
        spec = configuration.from_dict(Spec, description.get("spec"), where="config.json: spec")
        model = cls(config, spec=spec)
        model.load_tensors(folder / "model.safetensors")
        model.folder = folder
        return model

    def load_tensors(self, path: Path) -> None:
        """Load stored weights, checking every key and shape.

        Raises:
            CheckpointError: the file is missing or damaged, or a tensor is missing, unknown or of another
                shape.
        """
        tensors, self.weight_bits = read_weights(path, self.state_dict())
        self.load_state_dict(tensors)
        self._fingerprint = None

"""k-means units behind the interface of quantizers: c = argmin_k ||z - c_k||, with a book fitted offline.

What HuBERT (Hsu et al. 2021) and textless speech models (Lakhotia et al. 2021) call units: nothing is learned
in training. Books come from `initialize`, from `KMeans`, or from files of fairseq and textless, which keep
centroids as `.npy`. Pickles of scikit-learn models are refused: reading one runs whatever program it holds.
"""

from __future__ import annotations

import tokenize
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from audiotokens.errors import CheckpointError
from audiotokens.quantizers.base import Quantized, QuantizerConfig, from_rows, to_rows
from audiotokens.quantizers.book import BookQuantizer
from audiotokens.quantizers.lloyd import Start, lloyd

_PICKLES = (".bin", ".joblib", ".km", ".pickle", ".pkl", ".pt", ".pth")
# Pickle from protocol 2; zlib, gzip, bzip2, xz, lzma and lz4 around one, as joblib writes.
_PICKLE_STARTS = (b"\x80", b"\x78", b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x5d\x00", b"\x04\x22\x4d\x18")

# What NumPy raises for a header that is cut, forged or longer than its file.
_BAD_HEADER = (
    *(OSError, ValueError, EOFError, OverflowError, SyntaxError, TypeError),
    *(MemoryError, RecursionError, tokenize.TokenError),
)


@dataclass(frozen=True)
class KMeansConfig(QuantizerConfig):
    """k-means units.

    Args:
        kind: names this quantizer in a configuration.
        codebook_size: centroids K.
        iterations: of Lloyd's algorithm in `initialize`.
        start: of Lloyd's algorithm, "k-means++" or "random".
    """

    kind: Literal["k-means"] = "k-means"
    codebook_size: int = 500
    iterations: int = 50
    start: Start = "k-means++"

    def __post_init__(self) -> None:
        if self.codebook_size < 2 or self.iterations < 0:
            raise ValueError(
                f"codebook_size is {self.codebook_size}, expected at least 2; "
                f"iterations is {self.iterations}, expected 0 or more"
            )


class KMeansQuantizer(BookQuantizer):
    """Nearest of fixed centroids; `forward` gives no gradient, no losses and no statistics.

    State: `book` `[K, D]`.
    """

    config_class: ClassVar[type[QuantizerConfig]] = KMeansConfig
    label = "k-means"
    book: Tensor

    def __init__(self, dim: int, config: KMeansConfig) -> None:
        super().__init__(dim, config, size=config.codebook_size)
        self.config = config
        self.register_buffer("book", torch.randn(config.codebook_size, dim))

    @classmethod
    def from_centroids(cls, centroids: Tensor) -> KMeansQuantizer:
        """Build the quantizer of centroids `[K, D]`, such as those of `load_centroids`.

        Example:
            >>> quantizer = KMeansQuantizer.from_centroids(torch.tensor([[0.0, 0.0], [3.0, 4.0]]))
            >>> quantizer.encode(torch.tensor([[[0.5, 2.5], [0.5, 2.5]]])).tolist()
            [[[0, 1]]]
        """
        size, dim = centroids.shape
        quantizer = cls(dim, KMeansConfig(codebook_size=size))
        quantizer.book.copy_(centroids)
        return quantizer

    def entries(self, dtype: torch.dtype = torch.float32) -> Tensor:
        return self.book.to(dtype)

    @torch.no_grad()
    def forward(
        self, latents: Tensor, *, num_codebooks: Tensor | int | None = None, mask: Tensor | None = None
    ) -> Quantized:
        """Return the nearest centroids and their indices; a mask changes nothing."""
        index = self.nearest(to_rows(latents))
        return Quantized(
            latents=from_rows(self.entries()[index], len(latents)), codes=index.view(len(latents), 1, -1)
        )

    @torch.no_grad()
    def initialize(self, latents: Tensor, *, generator: torch.Generator | None = None) -> None:
        """Fit the centroids to `latents` `[N, D]`."""
        self.book.copy_(
            lloyd(
                latents,
                self.codebook_size,
                iterations=self.config.iterations,
                start=self.config.start,
                generator=generator,
            )
        )


def load_centroids(path: str | Path) -> Tensor:
    """Read centroids float32 `[K, D]` from an `.npy` file or a `.safetensors` file with one tensor.

    A pickled model is refused. Where you trust its source, convert it once:
    `numpy.save("centroids.npy", joblib.load("km.bin").cluster_centers_)`.

    Raises:
        CheckpointError: the file cannot be read, is a pickle, or holds something else.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            start = file.read(6)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error}); give a file of centroids") from None
    if start == b"\x93NUMPY":
        values = _read_npy(path)
    elif path.suffix == ".safetensors":
        values = _read_safetensors(path)
    elif path.suffix in _PICKLES or start.startswith(_PICKLE_STARTS):
        raise CheckpointError(
            f"{path} is a pickle, and reading one runs whatever program it holds; where you trust its "
            "source, convert it with scikit-learn installed: "
            f'numpy.save("centroids.npy", joblib.load("{path.name}").cluster_centers_)'
        )
    else:
        raise CheckpointError(f"{path} begins with {start!r}, expected an .npy or .safetensors file")
    if values.ndim != 2 or not values.size or values.dtype.kind != "f":
        raise CheckpointError(
            f"{path} holds {values.dtype} of shape {values.shape}, expected centroids [K, D] as floats"
        )
    with np.errstate(over="ignore"):
        centroids = torch.from_numpy(values.astype(np.float32))
    if not bool(centroids.isfinite().all()):
        raise CheckpointError(f"{path} holds NaN or infinity, expected finite centroids; get the file again")
    return centroids


def _read_npy(path: Path) -> np.ndarray:
    try:
        # A mapped file must be as long as its header says, so that a forged one cannot ask for memory.
        values: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    except _BAD_HEADER as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"{path} cannot be read as .npy ({reason}); get the file again") from None
    return values


def _read_safetensors(path: Path) -> np.ndarray:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}); get the file again") from None
    if len(tensors) != 1:
        names = ", ".join(sorted(tensors)) or "none"
        raise CheckpointError(f"{path} holds the tensors {names}, expected one with the centroids [K, D]")
    (tensor,) = tensors.values()
    values: np.ndarray = (tensor.float() if tensor.is_floating_point() else tensor).numpy()
    return values

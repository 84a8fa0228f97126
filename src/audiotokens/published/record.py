"""What a record of a published checkpoint holds."""

from __future__ import annotations

from dataclasses import dataclass

from audiotokens.spec import StreamSpec


@dataclass(frozen=True)
class File:
    """One published file.

    Args:
        name: its path in the repository or below the address.
        sha256: SHA-256 of its bytes, or the first digits of it where only those are known; empty: not known.
        size: in bytes; None: not known.
        aliases: other names under which the authors' own package stores it.
    """

    name: str
    sha256: str = ""
    size: int | None = None
    aliases: tuple[str, ...] = ()

    @property
    def base(self) -> str:
        """Its name without folders."""
        return self.name.rpartition("/")[2]


@dataclass(frozen=True)
class Origin:
    """One place where a checkpoint can be had, complete.

    Args:
        weights: its files.
        config: the file beside them that fixes the architecture; None: the record's variant does.
        hub: "organisation/name" on the Hugging Face hub; empty: it is not there.
        address: of the folder on the web where it is not on the hub; ends with "/".
        elsewhere: folders in which the authors' own package keeps the files. "{home}" is the user's,
            "{torch}" that of torch, "{NAME}" what the environment variable NAME holds.
        unverified: what about this place could not be checked, as a phrase.
    """

    weights: tuple[File, ...]
    config: File | None = None
    hub: str = ""
    address: str = ""
    elsewhere: tuple[str, ...] = ()
    unverified: str = ""

    @property
    def files(self) -> tuple[File, ...]:
        """The weights, and then the configuration if there is one."""
        return (*self.weights, *((self.config,) if self.config else ()))

    @property
    def page(self) -> str:
        """Where a person finds the files."""
        return f"https://huggingface.co/{self.hub}" if self.hub else self.address


@dataclass(frozen=True)
class Published:
    """One published checkpoint.

    Args:
        name: what to give to `load`.
        architecture: key of `registry.architectures`.
        variant: key of that family's `VARIANTS`.
        origins: places, the preferred one first; any one of them is enough.
        license: of the weights, SPDX identifier.
        paper: arXiv identifier.
        training_data: one phrase; empty: not stated by the authors.
        sample_rate: in Hz.
        channels: of the waveform.
        streams: codes that it makes; none: a vocoder of features.
        bitrates: that the authors name, in bits per second; empty: the one of all books.
        parameters: weights in use, as the authors' code counts them: with the gains of weight norm, without
            books that are not trained by gradients; None: not known.
        noncommercial: whether the licence forbids commercial use.
        notes: whole sentences.
    """

    name: str
    architecture: str
    variant: str
    origins: tuple[Origin, ...]
    license: str
    paper: str
    training_data: str
    sample_rate: int
    streams: tuple[StreamSpec, ...]
    channels: int = 1
    bitrates: tuple[float, ...] = ()
    parameters: int | None = None
    noncommercial: bool = False
    notes: tuple[str, ...] = ()

    @property
    def bitrate(self) -> float:
        """Bits per second with all books; 0 for a vocoder of features."""
        return sum(stream.bitrate for stream in self.streams)

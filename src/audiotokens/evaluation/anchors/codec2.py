"""Codec2 through pycodec2: parametric speech coding at 0.7 to 3.2 kbit/s."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

import numpy as np

from audiotokens.audio import RESAMPLER
from audiotokens.errors import AudioTokensError, MissingExtraError
from audiotokens.evaluation.anchors.coder import SpeechCoder, from_int16

_MODES = {"700C": 700, "1200": 1200, "1300": 1300, "1600": 1600, "2400": 2400, "3200": 3200}
_DELAY, _DELAY_700C = 160, 240
"""Delay in samples: from the middle of the analysis window to the middle of the synthesis window.

A shift search over eight speakers has its highest mean ESTOI at the same places, within 10 samples.
"""
_DECODER = Path(__file__).with_name("codec2_decoder.py")


class Codec2(SpeechCoder):
    """Codec2 (Rowe) at 8 kHz, in frames of 20 or 40 ms.

    Its decoder draws random phases from one generator of the whole process, so that what it gives depends on
    all that it decoded before. Here each recording is decoded in a process of its own: the same every time.

    Args:
        mode: "700C", "1200", "1300", "1600", "2400" or "3200", which is its rate in bits per second.

    Raises:
        MissingExtraError: pycodec2 is not installed.
        AudioTokensError: there is no such mode.
    """

    sample_rate = 8000
    align = False

    def __init__(self, mode: str) -> None:
        if mode not in _MODES:
            raise AudioTokensError(f'Codec2 has no mode "{mode}"; choose one of {", ".join(_MODES)}')
        self._codec2 = _pycodec2()
        self._mode = _MODES[mode]
        self.delay = _DELAY_700C if mode == "700C" else _DELAY
        self.nominal_bitrate = self._mode
        self.name = f"codec2-{mode.lower()}"
        self.title = f"Codec2 {mode}"
        self.definition = (
            f"Codec2 mode {mode}, package pycodec2 {version('pycodec2')}, one channel of int16 at 8 kHz "
            f"({RESAMPLER}), its delay of {self.delay} samples taken out, the last frame filled with zeros, "
            "each recording decoded in a fresh process; bits of whole frames, packed without gaps"
        )

    def encode(self, samples: np.ndarray) -> bytes:
        """Code int16 `[T]` at 8 kHz; every frame begins at a new byte."""
        coder = self._codec2.Codec2(self._mode)
        hop = coder.samples_per_frame()
        frames = np.pad(samples, (0, -len(samples) % hop)).reshape(-1, hop)
        return b"".join(coder.encode(frame) for frame in frames)

    def decode(self, coded: bytes) -> np.ndarray:
        """Return float32 `[N]` at 8 kHz."""
        # -P keeps the folder of the script, and with it this file, off the path that modules are looked up in
        command = [sys.executable, "-P", str(_DECODER), str(self._mode)]
        done = subprocess.run(command, input=coded, capture_output=True, check=False)
        if done.returncode:
            complaint = " ".join(done.stderr.decode("utf-8", "replace").split())
            raise AudioTokensError(f"{self.name}: the decoder failed: {complaint}")
        return from_int16(np.frombuffer(done.stdout, "<i2"))

    def count_bytes(self, coded: bytes) -> int:
        """Return the size of the frames once the bits that fill their last bytes are taken out."""
        coder = self._codec2.Codec2(self._mode)
        num_frames = len(coded) // int(coder.bytes_per_frame())
        return -(-num_frames * int(coder.bits_per_frame()) // 8)


def _pycodec2() -> ModuleType:
    try:
        import pycodec2
    except ImportError:
        raise MissingExtraError("Codec2", "anchors") from None
    module: ModuleType = pycodec2
    return module

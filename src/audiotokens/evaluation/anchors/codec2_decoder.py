"""Decode Codec2 frames from standard input to int16 samples on standard output: `codec2_decoder.py MODE`.

`codec2.py` runs this file in a process of its own and says why. It imports nothing of this package,
to be quick.
"""

from __future__ import annotations

import sys


def main() -> None:
    """Decode all frames of standard input; each takes a whole number of bytes."""
    import pycodec2

    coder = pycodec2.Codec2(int(sys.argv[1]))
    coded, size = sys.stdin.buffer.read(), coder.bytes_per_frame()
    for start in range(0, len(coded), size):
        samples = coder.decode(coded[start : start + size])
        sys.stdout.buffer.write(samples.astype("<i2").tobytes())


if __name__ == "__main__":
    main()

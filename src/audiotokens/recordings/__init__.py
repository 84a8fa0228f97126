"""Recordings of any length through a tokenizer, in memory for a few seconds of audio and the tokens.

Encoding and decoding run through the tokenizer's streaming sessions, whose results are those of one pass. A
tokenizer whose networks read whole recordings offers none: `Windowed` cuts the recording for it, and measures
what that changes.
"""

from audiotokens.recordings.checkpoint import Checkpoint
from audiotokens.recordings.decoding import decode_blocks, restored_blocks, restored_format
from audiotokens.recordings.encoding import Progress, encode_blocks, encode_file
from audiotokens.recordings.window_sessions import Disagreement, WindowEncoder
from audiotokens.recordings.windowed import Windowed, windows_of

__all__ = [
    "Checkpoint",
    "Disagreement",
    "Progress",
    "WindowEncoder",
    "Windowed",
    "decode_blocks",
    "encode_blocks",
    "encode_file",
    "restored_blocks",
    "restored_format",
    "windows_of",
]

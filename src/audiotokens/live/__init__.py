"""Live streams: PCM and lines of codes as bytes, microphone and loudspeaker, and what runs between."""

from audiotokens.live.devices import Microphone, Speaker
from audiotokens.live.lines import CodeLines, LineReader
from audiotokens.live.pcm import PCM_FORMATS, PcmReader, PcmWriter
from audiotokens.live.running import Stopwatch, Summary, run_stream

__all__ = [
    "PCM_FORMATS",
    "CodeLines",
    "LineReader",
    "Microphone",
    "PcmReader",
    "PcmWriter",
    "Speaker",
    "Stopwatch",
    "Summary",
    "run_stream",
]

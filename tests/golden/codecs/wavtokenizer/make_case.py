"""Make the case beside this file: a WavTokenizer too small to be of use, run in the original's code.

Usage: python make_case.py CHECKOUT WAV
CHECKOUT is github.com/jishengpeng/WavTokenizer at 5cf440d; torchaudio, which it imports, is not called. WAV
is a 16-bit recording at 24 kHz.
"""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path

import numpy as np
import soundfile
import torch
from safetensors.torch import save_file

FOLDER = Path(__file__).parent / "small_style"
RATIOS, DIMENSION, FILTERS, BINS, WIDTH, HOP = [4, 3, 2], 8, 2, 16, 32, 24
BACKBONE = {
    "input_channels": DIMENSION,
    "dim": WIDTH,
    "intermediate_dim": 48,
    "num_layers": 2,
    "adanorm_num_embeddings": 4,
}
HEAD = {"dim": WIDTH, "n_fft": 88, "hop_length": HOP, "padding": "same"}
LENGTHS = {"short": 1003, "tiny": 30}


def stub_torchaudio() -> None:
    """Stand in for the package, of which the modules that are used need names only."""
    names = ("torchaudio", "torchaudio.functional", "torchaudio.functional.functional")
    for name in names:
        sys.modules[name] = types.ModuleType(name)
    sys.modules[names[2]]._hz_to_mel = sys.modules[names[2]]._mel_to_hz = None  # type: ignore[attr-defined]


def main() -> None:
    """Write weights, configuration, recording and what the original makes of it."""
    checkout, recording = sys.argv[1:]
    sys.path.insert(0, checkout)
    stub_torchaudio()
    from decoder.heads import ISTFTHead
    from decoder.models import VocosBackbone
    from encoder.modules import SEANetEncoder
    from encoder.quantization import ResidualVectorQuantizer

    torch.manual_seed(0)
    torch.set_num_threads(1)
    encoder = SEANetEncoder(
        causal=False, norm="weight_norm", pad_mode="reflect", dimension=DIMENSION, n_filters=FILTERS,
        ratios=RATIOS, n_residual_layers=1, activation="ELU", true_skip=False, lstm=2,
    ).eval()  # fmt: skip
    quantizer = ResidualVectorQuantizer(dimension=DIMENSION, n_q=1, bins=BINS).eval()
    backbone, head = VocosBackbone(**BACKBONE).eval(), ISTFTHead(**HEAD).eval()
    for module in (encoder, backbone, head):
        for parameter in module.parameters():
            parameter.data += 0.15 * torch.randn_like(parameter)
    samples, _ = soundfile.read(recording, dtype="int16")
    waveform = torch.from_numpy(samples[: LENGTHS["short"]].astype(np.float32) / 32768)[None, None]
    book = quantizer.vq.layers[0]._codebook
    with torch.no_grad():
        latents = encoder(waveform)[0].T
        book.embed.copy_(latents[torch.linspace(0, len(latents) - 1, BINS).long()])
        book.embed.add_(0.1 * latents.std() * torch.randn_like(book.embed))
        book.inited.fill_(1)
    FOLDER.mkdir(exist_ok=True)
    with torch.inference_mode():
        for run, length in LENGTHS.items():
            latents = encoder(waveform[..., :length])
            found = quantizer.infer(latents, 25, bandwidth=6.6)
            arrays = {"latents": latents, "quantized": found.quantized, "codes": found.codes[0].short()}
            for name, condition in (("audio", 0), ("audio_bw3", 3)):
                hidden = backbone(found.quantized, bandwidth_id=torch.tensor([condition]))
                arrays[name] = head(hidden)
            for name, array in arrays.items():
                np.save(FOLDER / f"{run}.{name}.npy", array.numpy())
    parts = {
        "feature_extractor.encodec.encoder": encoder,
        "feature_extractor.encodec.quantizer": quantizer,
        "backbone": backbone,
        "head": head,
    }
    tensors = {
        f"{part}.{name}": tensor.contiguous()
        for part, module in parts.items()
        for name, tensor in module.state_dict().items()
    }
    save_file(tensors, FOLDER / "weights.safetensors")
    soundfile.write(FOLDER / "input.wav", samples[: LENGTHS["short"]], 24000, subtype="PCM_16")
    extractor = {"num_quantizers": 1, "dowmsamples": RATIOS, "vq_bins": BINS, "bandwidths": [6.6] * 4}
    extractor |= {"dimension": DIMENSION, "n_filters": FILTERS}
    config = {"feature_extractor": extractor, "backbone": BACKBONE, "head": HEAD, "lengths": LENGTHS}
    (FOLDER / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    meta = {
        "reference": "jishengpeng/WavTokenizer, commit 5cf440d",
        "audio": "google/lyra testdata sample1_48kHz.wav (Apache-2.0)",
        "layout": "codes [1,T]; latents, quantized [1,D,T]; audio [1,N] of bandwidth_id 0, audio_bw3 of 3",
        "torch": torch.__version__,
    }
    (FOLDER / "meta.json").write_text(json.dumps(meta, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""The table of published checkpoints, family by family."""

from __future__ import annotations

from fractions import Fraction

from audiotokens.published.record import File, Origin, Published
from audiotokens.spec import StreamSpec


def _hub(repository: str, *weights: str, config: str = "config.json", unverified: str = "") -> Origin:
    beside = File(config) if config else None
    return Origin(tuple(map(File, weights)), beside, repository, unverified=unverified)


def _codes(rate: int | str | Fraction, books: int, size: int) -> tuple[StreamSpec, ...]:
    return (StreamSpec("codes", (size,) * books, Fraction(rate)),)


def _levels(finest: Fraction, *strides: int) -> tuple[StreamSpec, ...]:
    return tuple(StreamSpec(f"level{i}", (4096,), finest / stride) for i, stride in enumerate(strides))


def _encodec_file(name: str, sha256: str) -> Origin:
    return Origin(
        (File(name, sha256),),
        address="https://dl.fbaipublicfiles.com/encodec/v0/",
        elsewhere=("{torch}/hub/checkpoints",),
    )


def _dac(kilohertz: int, label: str, tag: str, file: str) -> Origin:
    named = f"weights_{kilohertz}khz_{label}_{tag}.pth"
    older = () if file == "weights.pth" else ("weights.pth",)
    stored = File(file, aliases=(named, *older))
    return Origin(
        (stored,),
        address=f"https://github.com/descriptinc/descript-audio-codec/releases/download/{tag}/",
        elsewhere=(
            "{home}/.cache/descript/dac",
            f"{{home}}/.cache/descript/{kilohertz}khz/{tag}/dac",
        ),
    )


def _wavtokenizer(
    size: str, rate: int, repository: str, file: str, data: str, *, unverified: str = ""
) -> Published:
    return Published(
        name=f"wavtokenizer-{size}-{rate}token",
        architecture="wavtokenizer",
        variant=f"wavtokenizer-{rate}hz",
        origins=(_hub(repository, file, config="", unverified=unverified),),
        license="MIT",
        paper="2408.16532",
        training_data=data,
        sample_rate=24000,
        streams=_codes(rate, 1, 4096),
        parameters={40: 72_111_714, 75: 71_750_146}[rate],
    )


_LYRA_FILES = (
    File(
        "soundstream_encoder.tflite",
        "237da0b16226fb0a68d49551c81bebf614e42142af72764448359f68581e88f1",
        1_779_200,
    ),
    File("quantizer.tflite", "841ee05989687d32d1f616a8ad1419fc7eda37599d3c05c7cf5a0d60ccf8ac5c", 329_012),
    File("lyragan.tflite", "50e7839cda4f30599a3a34cfaddcd9c98449b049eee884e1a74295780448ad06", 1_475_160),
)
_NOT_FOR_TRADE = "The code is MIT, the weights are CC-BY-NC-4.0 (audiocraft's LICENSE_weights)."
_MIT_NOW = "The repository is MIT; the package encodec 0.1.1 on PyPI still declares CC-BY-NC-4.0."

_ENCODEC = (
    Published(
        name="encodec-24khz",
        architecture="encodec",
        variant="encodec-24khz",
        origins=(
            _encodec_file("encodec_24khz-d7cc33bc.th", "d7cc33bc"),
            _hub("facebook/encodec_24khz", "model.safetensors"),
        ),
        license="MIT",
        paper="2210.13438",
        training_data="speech, music and general audio",
        sample_rate=24000,
        streams=_codes(75, 32, 1024),
        bitrates=(1500, 3000, 6000, 12000, 24000),
        parameters=14_851_810,
        notes=(_MIT_NOW,),
    ),
    Published(
        name="encodec-48khz",
        architecture="encodec",
        variant="encodec-48khz",
        origins=(
            _encodec_file("encodec_48khz-7e698e3e.th", "7e698e3e"),
            _hub("facebook/encodec_48khz", "model.safetensors"),
        ),
        license="MIT",
        paper="2210.13438",
        training_data="music",
        sample_rate=48000,
        channels=2,
        streams=_codes(150, 16, 1024),
        bitrates=(3000, 6000, 12000, 24000),
        parameters=14_856_294,
        notes=(_MIT_NOW,),
    ),
    Published(
        name="encodec-32khz",
        architecture="encodec",
        variant="encodec-32khz",
        origins=(_hub("facebook/encodec_32khz", "model.safetensors"),),
        license="CC-BY-NC-4.0",
        noncommercial=True,
        paper="2306.05284",
        training_data="music (of MusicGen)",
        sample_rate=32000,
        streams=_codes(50, 4, 2048),
        parameters=56_884_674,
        notes=(_NOT_FOR_TRADE,),
    ),
    Published(
        name="encodec-16khz",
        architecture="encodec",
        variant="encodec-16khz",
        origins=(
            _hub(
                "facebook/audiogen-medium",
                "compression_state_dict.bin",
                config="",
                unverified="layout inside the file",
            ),
        ),
        license="CC-BY-NC-4.0",
        noncommercial=True,
        paper="2209.15352",
        training_data="environmental sound (of AudioGen)",
        sample_rate=16000,
        streams=_codes(50, 4, 2048),
        notes=(_NOT_FOR_TRADE,),
    ),
)


def _dac_record(
    name: str, rate: int, origins: tuple[Origin, ...], books: int, frame_rate: Fraction, parameters: int
) -> Published:
    return Published(
        name=name,
        architecture="dac",
        variant=name,
        origins=origins,
        license="MIT",
        paper="2306.06546",
        training_data="speech, music and environmental sound",
        sample_rate=rate,
        streams=_codes(frame_rate, books, 1024),
        parameters=parameters,
    )


def _dac_hub(repository: str) -> Origin:
    return _hub(repository, "model.safetensors", unverified="hub id")


_DAC = (
    _dac_record(
        "dac-16khz",
        16000,
        (_dac(16, "8kbps", "0.0.5", "weights_16khz.pth"), _dac_hub("descript/dac_16khz")),
        12,
        Fraction(50),
        74_175_906,
    ),
    _dac_record(
        "dac-24khz",
        24000,
        (_dac(24, "8kbps", "0.0.4", "weights_24khz.pth"), _dac_hub("descript/dac_24khz")),
        32,
        Fraction(75),
        74_708_706,
    ),
    _dac_record(
        "dac-44khz",
        44100,
        (_dac(44, "8kbps", "0.0.1", "weights.pth"), _dac_hub("descript/dac_44khz")),
        9,
        Fraction(44100, 512),
        76_651_890,
    ),
    _dac_record(
        "dac-44khz-16kbps",
        44100,
        (_dac(44, "16kbps", "1.0.0", "weights_44khz_16kbps.pth"),),
        18,
        Fraction(44100, 512),
        64_213_250,
    ),
)


def _snac(kilohertz: int, rate: int, streams: tuple[StreamSpec, ...], parameters: int, use: str) -> Published:
    return Published(
        name=f"snac-{kilohertz}khz",
        architecture="snac",
        variant=f"snac-{kilohertz}khz",
        origins=(_hub(f"hubertsiuzdak/snac_{kilohertz}khz", "pytorch_model.bin"),),
        license="MIT",
        paper="2410.14411",
        training_data="",
        sample_rate=rate,
        streams=streams,
        parameters=parameters,
        notes=(f"Its authors recommend it for {use}.",),
    )


def _vocos(
    name: str, data: str, streams: tuple[StreamSpec, ...], bitrates: tuple[float, ...], parameters: int
) -> Published:
    return Published(
        name=name,
        architecture="vocos",
        variant=name,
        origins=(_hub(f"charactr/{name}", "pytorch_model.bin", config=""),),
        license="MIT",
        paper="2306.00814",
        training_data=data,
        sample_rate=24000,
        streams=streams,
        bitrates=bitrates,
        parameters=parameters,
    )


def _speechtokenizer(variant: str, origin: Origin, parameters: int, data: str) -> Published:
    return Published(
        name=f"speechtokenizer-{variant}",
        architecture="speechtokenizer",
        variant=f"speechtokenizer-{variant}",
        origins=(origin,),
        license="Apache-2.0",
        paper="2308.16692",
        training_data=data,
        sample_rate=16000,
        streams=_codes(50, 8, 1024),
        parameters=parameters,
    )


_RECORDS = (
    *_ENCODEC,
    *_DAC,
    _snac(24, 24000, _levels(Fraction(24000, 512), 4, 2, 1), 19_842_914, "speech"),
    _snac(32, 32000, _levels(Fraction(32000, 384), 8, 4, 2, 1), 54_546_338, "music and sound effects"),
    _snac(44, 44100, _levels(Fraction(44100, 384), 8, 4, 2, 1), 54_546_338, "music and sound effects"),
    _vocos("vocos-mel-24khz", "LibriTTS", (), (), 13_531_650),
    _vocos(
        "vocos-encodec-24khz", "DNS Challenge", _codes(75, 16, 1024), (1500, 3000, 6000, 12000), 10_081_410
    ),
    Published(
        name="mimi",
        architecture="mimi",
        variant="mimi",
        origins=(
            _hub("kyutai/moshiko-pytorch-bf16", "tokenizer-e351c8d8-checkpoint125.safetensors", config=""),
            _hub("kyutai/mimi", "model.safetensors"),
        ),
        license="CC-BY-4.0",
        paper="2410.00037",
        training_data="",
        sample_rate=24000,
        streams=(
            StreamSpec("semantic", (2048,), Fraction(25, 2)),
            StreamSpec("acoustic", (2048,) * 31, Fraction(25, 2)),
        ),
        bitrates=(1100, 4400),
        parameters=79_308_609,
        notes=("Moshi uses 8 of its 32 books (1.1 kbit/s).",),
    ),
    _speechtokenizer(
        "hubert-avg",
        _hub(
            "fnlp/SpeechTokenizer",
            "speechtokenizer_hubert_avg/SpeechTokenizer.pt",
            config="speechtokenizer_hubert_avg/config.json",
        ),
        103_675_586,
        "LibriSpeech; the first book follows the mean of all HuBERT layers",
    ),
    _speechtokenizer(
        "snake",
        _hub(
            "fnlp/AnyGPT-speech-modules",
            "speechtokenizer/ckpt.dev",
            config="speechtokenizer/config.json",
            unverified="names of the files and the configuration",
        ),
        103_683_458,
        "LibriSpeech and Common Voice; the first book follows the mean of all HuBERT layers",
    ),
    _wavtokenizer("small", 40, "novateur/WavTokenizer", "WavTokenizer_small_600_24k_4096.ckpt", "LibriTTS"),
    _wavtokenizer("small", 75, "novateur/WavTokenizer", "WavTokenizer_small_320_24k_4096.ckpt", "LibriTTS"),
    _wavtokenizer(
        "medium-speech",
        75,
        "novateur/WavTokenizer-medium-speech-75token",
        "wavtokenizer_medium_speech_320_24k_v2.ckpt",
        "speech (10,000 hours with music and audio)",
        unverified="hub id and name of the file",
    ),
    _wavtokenizer(
        "medium-music-audio",
        75,
        "novateur/WavTokenizer-medium-music-audio-75token",
        "wavtokenizer_medium_music_audio_320_24k_v2.ckpt",
        "music and audio (10,000 hours with speech)",
        unverified="name of the file",
    ),
    _wavtokenizer(
        "large-unify",
        40,
        "novateur/WavTokenizer-large-unify-40token",
        "wavtokenizer_large_unify_600_24k.ckpt",
        "80,000 hours of speech, music and audio",
    ),
    _wavtokenizer(
        "large-speech",
        75,
        "novateur/WavTokenizer-large-speech-75token",
        "wavtokenizer_large_speech_320_v2.ckpt",
        "80,000 hours; its authors name speech, audio and music",
    ),
    Published(
        name="lyra-v2",
        architecture="soundstream",
        variant="lyra-v2",
        origins=(
            Origin(
                _LYRA_FILES,
                address="https://raw.githubusercontent.com/google/lyra/"
                "47698dadf0010abff6a848e02642f55f806d4842/lyra/model_coeffs/",
                elsewhere=("{AUDIOTOKENS_LYRA}",),
            ),
        ),
        license="Apache-2.0",
        paper="2107.03312",
        training_data="",
        sample_rate=16000,
        streams=_codes(50, 46, 16),
        bitrates=(3200, 6000, 9200),
        parameters=1_317_953,
        notes=("Weights of three int8 TFLite graphs of Lyra 1.3.2, as floats.",),
    ),
)

published: dict[str, Published] = {record.name: record for record in _RECORDS}
"""Every record by name."""

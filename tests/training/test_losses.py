"""Losses against their equations written plainly."""

from __future__ import annotations

import math

import pytest
import torch

from audiotokens.training.losses import (
    ComplexLoss,
    LogMelLoss,
    LoudnessLoss,
    MagnitudeLoss,
    ReconstructionLoss,
    complex_weight,
    loudness_weights,
    mel_weights,
)
from audiotokens.training.spectra import Spectra, inner_product, short_time_spectrum


@pytest.fixture
def pair() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    reference = 0.1 * torch.randn(3, 4000, generator=generator)
    return reference, 0.5 * reference + 0.05 * torch.randn(3, 4000, generator=generator)


def plain_stft(waveform: torch.Tensor, window: int) -> torch.Tensor:
    taper = torch.hann_window(window)
    spectrum = torch.stft(
        waveform, window, window // 4, window=taper, center=True, pad_mode="constant", return_complex=True
    )
    return spectrum.mT


@pytest.mark.parametrize("window", [256, 512, 1024])
def test_the_spectrum_is_the_centred_stft(pair: tuple[torch.Tensor, torch.Tensor], window: int) -> None:
    found = short_time_spectrum(pair[0], window)
    assert torch.allclose(found, plain_stft(pair[0], window), atol=1e-5)


def gradient_of(tensor: torch.Tensor) -> torch.Tensor:
    gradient = tensor.grad
    if gradient is None:
        pytest.fail("nothing flowed back")
    return gradient


def test_the_gradient_of_the_spectrum_is_that_of_torch(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    weight = torch.randn(3, 32, 257, dtype=torch.complex64, generator=torch.Generator().manual_seed(1))
    gradients = []
    for transform in (short_time_spectrum, plain_stft):
        waveform = pair[1].clone().requires_grad_()
        torch.view_as_real(transform(waveform, 512) * weight).sum().backward()
        gradients.append(gradient_of(waveform))
    assert torch.allclose(gradients[0], gradients[1], atol=1e-4)


def test_windows_made_in_inference_serve_training() -> None:
    with torch.inference_mode():
        short_time_spectrum(torch.zeros(1, 96), 48)
    waveform = torch.randn(1, 96, requires_grad=True)
    short_time_spectrum(waveform, 48).abs().sum().backward()
    assert gradient_of(waveform).any()


def test_power_and_inner_product_have_right_gradients() -> None:
    generator = torch.Generator().manual_seed(2)
    spectrum = torch.randn(2, 3, 5, dtype=torch.complex128, generator=generator).requires_grad_()
    constant = torch.randn(2, 3, 5, dtype=torch.complex128, generator=generator)
    spectra = Spectra(torch.zeros(1, 1024))

    def power(value: torch.Tensor) -> torch.Tensor:
        spectra._complex = {512: value}
        spectra._powers = {}
        return spectra.power(512)

    assert torch.autograd.gradcheck(power, spectrum)
    assert torch.autograd.gradcheck(lambda value: inner_product(constant, value), spectrum)


def test_the_complex_loss_is_its_equation(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    def compressed(waveform: torch.Tensor) -> torch.Tensor:
        spectrum = plain_stft(waveform, 512).to(torch.complex128)
        return spectrum * spectrum.abs().square().clamp(min=1e-7) ** -0.35

    expected = (compressed(pair[1]) - compressed(pair[0])).abs().square().mean((1, 2))
    found = ComplexLoss()(Spectra(pair[0]), Spectra(pair[1]))
    assert torch.allclose(found.double(), expected, rtol=1e-4)


def test_the_log_mel_loss_is_its_equation(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    def bands(waveform: torch.Tensor) -> torch.Tensor:
        return torch.log(plain_stft(waveform, 1024).abs()[:, ::2] @ mel_weights(16000, 1024, 80) + 1e-4)

    expected = (bands(pair[1]) - bands(pair[0])).abs().mean((1, 2))
    assert torch.allclose(
        LogMelLoss(16000, 1024, 80)(Spectra(pair[0]), Spectra(pair[1])), expected, rtol=1e-4
    )


@pytest.mark.parametrize(("window", "bands"), [(256, 24), (1024, 64)])
def test_the_loudness_loss_is_its_equation(
    pair: tuple[torch.Tensor, torch.Tensor], window: int, bands: int
) -> None:
    scale = pair[0].square().mean(1).pow(-1)
    weights = loudness_weights(16000, window, bands).double()
    power_x, power_y = (
        (plain_stft(w * scale.sqrt()[:, None], window).abs().double().square() @ weights) * 512 / window
        for w in pair
    )
    loud_x, loud_y = (power_x + 3e-4) ** 0.23, (power_y + 3e-4) ** 0.23
    difference = loud_y - loud_x
    masked = (difference.abs() - 0.25 * torch.minimum(loud_x, loud_y)).clamp(min=0)
    disturbance = difference.sign() * masked + 0.1 * difference
    ratio = ((power_y + 9e-3) / (power_x + 9e-3)) ** 1.2
    asymmetry = torch.where(ratio < 3, 0.0, ratio.clamp(max=12))
    frames = (disturbance.square().mean(2) + 1e-6).sqrt() + 0.3 * (disturbance.abs() * asymmetry).mean(2)
    found = LoudnessLoss(16000, window, bands)(Spectra(pair[0]), Spectra(pair[1]), scale)
    assert (asymmetry > 0).any()
    assert torch.allclose(found.double(), frames.mean(1), rtol=1e-3)


def test_added_energy_costs_more_than_missing_energy() -> None:
    loss = LoudnessLoss(16000, 512, 42)
    noise = torch.randn(1, 8000, generator=torch.Generator().manual_seed(3))
    scale = torch.ones(1)
    added = loss(Spectra(0.1 * noise), Spectra(noise), scale)
    missing = loss(Spectra(noise), Spectra(0.1 * noise), scale)
    assert float(added) > 1.5 * float(missing)


@pytest.mark.parametrize(("window", "bands"), [(256, 24), (512, 42), (1024, 64)])
def test_loudness_bands_average_and_cover_their_range(window: int, bands: int) -> None:
    weights = loudness_weights(16000, window, bands)
    assert torch.allclose(weights.sum(0), torch.ones(bands), atol=1e-6)
    assert (weights[:, 1:].argmax(0) >= weights[:, :-1].argmax(0)).all()
    assert weights[0].sum() == 0 or window == 256
    assert weights[-1].sum() > 0


@pytest.mark.parametrize(("window", "bands"), [(256, 40), (1024, 80)])
def test_no_mel_band_is_empty(window: int, bands: int) -> None:
    assert torch.allclose(mel_weights(16000, window, bands).sum(0), torch.ones(bands), atol=1e-6)


def test_equal_signals_have_no_loss(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    terms = ReconstructionLoss(16000)(pair[0], pair[0])
    assert set(terms) == {"complex_stft", "log_mel", "magnitude", "loudness"}
    assert terms["magnitude"].max() == 0
    assert terms["complex_stft"].abs().max() < 1e-5
    assert terms["log_mel"].max() == 0
    assert terms["loudness"].max() == pytest.approx(1e-3, rel=1e-3)


def test_the_magnitude_loss_is_its_equation_and_does_not_see_phase(
    pair: tuple[torch.Tensor, torch.Tensor],
) -> None:
    x, y = pair
    compressed = [(plain_stft(signal, 1024).abs().square() + 1e-7).pow(0.15) for signal in (x, y)]
    expected = (compressed[1] - compressed[0]).abs().mean((1, 2))
    loss = MagnitudeLoss(1024)
    assert torch.allclose(loss(Spectra(x), Spectra(y)), expected, rtol=1e-3)
    assert loss(Spectra(x), Spectra(-x)).max() < 1e-6


def test_a_long_window_sees_phases_that_do_not_fit_together() -> None:
    time = torch.arange(16000) / 16000
    steady = torch.sin(2 * math.pi * 150 * time)[None]
    jumping = torch.sin(2 * math.pi * 150 * time + (time * 50).floor() * 2.4)[None]
    short, long = (float(MagnitudeLoss(n)(Spectra(steady), Spectra(jumping))) for n in (128, 2048))
    assert long > 3 * short


def test_two_draws_give_an_energy_distance() -> None:
    """Noise of the right level is better than none, though farther from the reference draw by draw."""
    random = torch.Generator().manual_seed(1)
    x, y, second = 0.1 * torch.randn(3, 40, 8000, generator=random)
    loss = ReconstructionLoss(16000)
    right, loud, none = (loss(x, level * y, level * second) for level in (1.0, 2.0, 0.3))
    for term in ("log_mel", "magnitude"):
        assert right[term].mean() < loud[term].mean() and right[term].mean() < none[term].mean()
        plain = loss(x, y)[term], loss(x, second)[term], loss(y, second)[term]
        assert torch.allclose(right[term], (plain[0] + plain[1] - plain[2]) / 2, rtol=1e-4)
    buzz = 0.1 * torch.ones(40, 8000) * torch.where(torch.arange(8000) % 20 == 0, 20**0.5, 0.0)
    assert right["magnitude"].mean() < 0.7 * loss(x, buzz, buzz)["magnitude"].mean()


def test_silence_has_finite_gradients() -> None:
    output = torch.zeros(2, 4000, requires_grad=True)
    terms = ReconstructionLoss(16000)(torch.zeros(2, 4000), output)
    sum(term.sum() for term in terms.values()).backward()
    assert torch.isfinite(gradient_of(output)).all()


def test_crops_do_not_change_each_other(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    criterion = ReconstructionLoss(16000)
    together, alone = criterion(*pair), criterion(pair[0][:1], pair[1][:1])
    for name, term in together.items():
        assert float(term[0]) == pytest.approx(float(alone[name][0]), rel=1e-5)


def test_the_loudness_term_can_be_left_out(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    assert "loudness" not in ReconstructionLoss(16000)(*pair, loudness=False)


def test_few_books_ask_for_little_phase() -> None:
    weights = complex_weight(torch.tensor([1, 6, 9, 12]), 12)
    assert weights.tolist() == pytest.approx([1 / 6, 1.0, 1.5, 1.5])

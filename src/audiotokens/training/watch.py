"""Watch a run: use of the books, phase collapse, discriminators that win or know nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from audiotokens.entropy import perplexity

COLLAPSE_SHARE = 0.05
PHASE_ERROR = 0.015
PHASE_SI_SDR = -8.0
JUDGED_RIGHT_MOST = 0.97
JUDGED_RIGHT_LEAST = 0.52
_MIN_CODES = 4
_MIN_JUDGED = 10


class CodeUsage:
    """Counts of codes over a sliding window with exponential forgetting.

    Args:
        codebook_sizes: entries of each book.
        window: steps after which a count has fallen to 1/e.
        device: where the codes are.
    """

    def __init__(
        self, codebook_sizes: Sequence[int], *, window: int = 100, device: torch.device | str = "cpu"
    ) -> None:
        self._sizes = tuple(codebook_sizes)
        self._keep = 1 - 1 / window
        self._counts = torch.zeros(len(self._sizes), max(self._sizes), device=device)
        self._offsets = (torch.arange(len(self._sizes), device=device) * max(self._sizes))[:, None]

    @torch.no_grad()
    def update(self, codes: Tensor | tuple[Tensor, ...], num_codebooks: Tensor) -> None:
        """Count codes `[B, K, T]`, of each item the first `num_codebooks` `[B]` books only.

        Where books differ in rate, `codes` is a tuple with the books in their order.
        """
        self._counts.mul_(self._keep)
        first = 0
        for part in codes if isinstance(codes, tuple) else (codes,):
            books = torch.arange(first, first + part.shape[1], device=part.device)
            used = (books < num_codebooks[:, None]).float()[:, :, None].expand(part.shape)
            numbers = part + self._offsets[first : first + part.shape[1]]
            self._counts.view(-1).index_add_(0, numbers.flatten(), used.flatten())
            first += part.shape[1]

    def perplexities(self) -> list[float]:
        """Entries in even use that the codes of each book amount to; 0 where nothing was counted."""
        return [perplexity(counts) for counts in self._counts.cpu().numpy()]

    def collapsed(self) -> list[int]:
        """Books (from 0) whose perplexity is under 5 % of their size, where enough codes were counted."""
        totals = self._counts.sum(1).tolist()
        return [
            book
            for book, (size, total, perplexity) in enumerate(
                zip(self._sizes, totals, self.perplexities(), strict=True)
            )
            if total >= _MIN_CODES * size and perplexity < COLLAPSE_SHARE * size
        ]


@torch.no_grad()
def relative_error(latents: Tensor, quantized: Tensor) -> Tensor:
    """Squared quantization error over the variance of the latents about their mean, both `[B, D, T]`."""
    latents = latents.float()
    variance = (latents - latents.mean((0, 2), keepdim=True)).square().mean()
    return (latents - quantized.float()).square().mean() / variance.clamp(min=1e-12)


@torch.no_grad()
def signal_to_distortion(reference: Tensor, output: Tensor) -> Tensor:
    """Scale-invariant signal-to-distortion ratio of `[B, T]` in dB, mean over B (Le Roux et al. 2019)."""
    reference, output = reference.float(), output.float()
    energy = reference.square().sum(-1, keepdim=True).clamp(min=1e-8)
    target = (output * reference).sum(-1, keepdim=True) / energy * reference
    ratio = target.square().sum(-1) / (output - target).square().sum(-1).clamp(min=1e-12)
    return 10 * torch.log10(ratio.clamp(min=1e-8)).mean()


class Watch:
    """Turns figures of a run into warnings, each given once until it has gone away.

    Args:
        start: step from which the alarms are on.
    """

    def __init__(self, start: int) -> None:
        self._start = start
        self._active: set[str] = set()
        self._phase: tuple[float, float] | None = None
        self._judged: tuple[int, float] = (0, 0.0)

    def warnings(self, step: int, usage: CodeUsage, figures: Mapping[str, float]) -> list[str]:
        """Return new warnings.

        Args:
            step: of the run.
            usage: of the books.
            figures: "relative_error" and "si_sdr" of crops that use all books, where known; in an adversarial
                phase also "adversarial", "real_right" and "fake_right".
        """
        if step < self._start:
            return []
        found = {
            f"book {book + 1} collapses: its perplexity is under {COLLAPSE_SHARE:.0%} of its size; "
            "lower the learning rate or start the books again"
            for book in usage.collapsed()
        }
        if self._phase_collapsed(figures):
            found.add(
                f"phase collapse: relative quantization error under {PHASE_ERROR} and SI-SDR under "
                f"{PHASE_SI_SDR:.0f} dB; start again with more steps without quantizer and without loudness"
            )
        found |= self._adversary_warnings(figures)
        new = sorted(found - self._active)
        self._active = found
        return new

    def _phase_collapsed(self, figures: Mapping[str, float]) -> bool:
        if "relative_error" not in figures or "si_sdr" not in figures:
            return False
        now = (figures["relative_error"], figures["si_sdr"])
        before = self._phase or now
        self._phase = (0.9 * before[0] + 0.1 * now[0], 0.9 * before[1] + 0.1 * now[1])
        return self._phase[0] < PHASE_ERROR and self._phase[1] < PHASE_SI_SDR

    def _adversary_warnings(self, figures: Mapping[str, float]) -> set[str]:
        # While the discriminators learn alone there is no adversarial term, and they should win.
        if "adversarial" not in figures:
            return set()
        now = (figures["real_right"] + figures["fake_right"]) / 2
        seen, before = self._judged
        right = 0.9 * before + 0.1 * now if seen else now
        self._judged = (seen + 1, right)
        if seen + 1 < _MIN_JUDGED:
            return set()
        if right > JUDGED_RIGHT_MOST:
            return {
                f"the discriminators win: they judge over {JUDGED_RIGHT_MOST:.0%} right and teach little; "
                "lower their learning rate, or raise the adversarial weight"
            }
        if right < JUDGED_RIGHT_LEAST:
            return {
                f"the discriminators collapse: they judge under {JUDGED_RIGHT_LEAST:.0%} right, as chance; "
                "raise their learning rate or their steps alone, or lower the adversarial weight"
            }
        return set()

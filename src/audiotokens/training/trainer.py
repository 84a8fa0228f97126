"""One run: its state, the step that moves it, its log and its checkpoints.

A step is a function of the state and its number alone (crops and random numbers are seeded by it), so a run
that was stopped anywhere and resumed equals an uninterrupted one; on a CPU with one thread, bit for bit.
"""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from audiotokens.codec import Codec, CodecOutput
from audiotokens.config import to_dict
from audiotokens.errors import ConfigError, TrainingError
from audiotokens.training import checkpoint as checkpoints
from audiotokens.training.adversary import Adversary, Part, total
from audiotokens.training.config import Recipe, check_same_run, keep_timed_length
from audiotokens.training.curves import append_record, read_records, truncate_log, write_curves
from audiotokens.training.data import Ahead, Crops, PackedAudio
from audiotokens.training.deadline import Deadline
from audiotokens.training.losses import ReconstructionLoss, complex_weight
from audiotokens.training.optimize import Average, learning_rate_share, make_optimizer
from audiotokens.training.progress import Progress
from audiotokens.training.watch import CodeUsage, Watch, relative_error, signal_to_distortion

_VALIDATION_BATCHES = 4
_ALARM_DELAY = 500


class Trainer:
    """State of one run and the step that moves it.

    Args:
        codec: untrained.
        recipe: of the run.
        audio: packed data.
        output: folder of the run.
        device: where to train.

    Raises:
        ConfigError: the data have another sample rate or channels than the codec, or too few files.
    """

    def __init__(
        self, codec: Codec, recipe: Recipe, audio: PackedAudio, output: Path, *, device: torch.device
    ) -> None:
        if audio.sample_rate != codec.spec.sample_rate:
            raise ConfigError(
                f"{audio.path} has {audio.sample_rate} Hz, the codec {codec.spec.sample_rate} Hz; "
                "pack at the codec's rate"
            )
        if codec.spec.channels != 1:
            raise ConfigError(
                f"the codec has {codec.spec.channels} channels; packed data have one, and so must it"
            )
        # With every key, so that a later change of a default cannot change a run that is resumed.
        self.recipe = recipe = replace(recipe, codec=to_dict(codec.config))
        self.audio, self.output, self.device = audio, output, device
        self.codec = codec.to(device).train()
        self.average = Average(self.codec, recipe.average_decay)
        self.optimizer = make_optimizer(self.codec, recipe.optimizer)
        adversarial = recipe.adversarial
        bfloat16 = ((adversarial and adversarial.precision) or recipe.precision) == "bfloat16"
        self.adversary = (
            Adversary(adversarial, self.codec, seed=recipe.seed, bfloat16=bfloat16) if adversarial else None
        )
        self.criterion = ReconstructionLoss(audio.sample_rate).to(device)
        self.prefixes = codec.spec.legal_prefixes
        crops = Crops(audio, recipe.data, prefixes=self.prefixes, seed=recipe.seed)
        self.crops = crops if device.type == "cpu" else Ahead(crops)
        self.usage = CodeUsage(codec.quantizer.codebook_sizes, device=device)
        self.watch = Watch(max(recipe.schedule.unquantized, recipe.loss.loudness_full) + _ALARM_DELAY)
        self.step = 0
        self._start: list[Tensor] = []
        self._sums: dict[str, Tensor] = {}
        self._since = (0, time.monotonic())

    def run(self, progress: Progress, *, max_steps: int | None = None, minutes: float | None = None) -> Path:
        """Train to the end, then write a checkpoint and the tokenizer; return its folder.

        Args:
            progress: is told of each line of the log.
            max_steps: an earlier end, without cooldown.
            minutes: an earlier end, with the cooldown if the schedule has one.
        """
        recipe = self.recipe
        last = progress.last = self._last(max_steps)
        deadline = None if minutes is None else Deadline(minutes, recipe.schedule, self.step)
        # Gradients of quiet crops are full of denormal numbers, on which FFTs and products are several times
        # slower.
        torch.set_flush_denormal(True)
        try:
            while self.step < last and not (deadline and deadline.over()):
                if deadline and self._plan(deadline):
                    last = progress.last = self._last(max_steps)
                self.train_step()
                if self.step % recipe.log_every == 0 or self.step == last:
                    progress.show(self._log())
                if recipe.validate_every and self.step % recipe.validate_every == 0:
                    append_record(self.log_path, {"step": self.step, **self.validate()})
                if self.step % recipe.checkpoint_every == 0 and self.step != last:
                    self.save()
        finally:
            torch.set_flush_denormal(False)
        progress.close()
        return self.save()

    def _last(self, max_steps: int | None) -> int:
        last = self.recipe.schedule.last
        return last if max_steps is None else min(max_steps, last)

    def _plan(self, deadline: Deadline) -> bool:
        """Let the time decide the length of the run, where it is due; return whether it did."""
        schedule = deadline.planned(self.recipe.schedule, self.step)
        if schedule == self.recipe.schedule:
            return False
        self.recipe = replace(self.recipe, schedule=schedule)
        # Before the clock is forgotten: a run that is killed from now on resumes to the same bits.
        self.save()
        return True

    @property
    def log_path(self) -> Path:
        """The log of the run, JSON lines."""
        return self.output / "log.jsonl"

    def train_step(self) -> None:
        """Do one step."""
        recipe, step = self.recipe, self.step
        torch.manual_seed((recipe.seed << 32) + step)
        if step == recipe.schedule.unquantized and self._start:
            self._start_books()
        batch = self.crops(step)
        waveform = torch.from_numpy(batch.waveform).to(self.device, non_blocking=True)
        books = torch.from_numpy(batch.num_codebooks).to(self.device, non_blocking=True)
        self._set_learning_rate(step)
        learn_books = self.adversary is None or self.adversary.prepare(step, self.average)
        output, terms, parts = self.evaluate(
            self.codec, waveform, books, quantize=step >= recipe.schedule.unquantized
        )
        self.optimizer.zero_grad(set_to_none=True)
        if self.adversary is not None and step >= self.adversary.config.start:
            share = learning_rate_share(recipe.schedule, step)
            terms |= self.adversary.backward(step, waveform[:, None], output.waveform, books, parts, share)
        else:
            terms["loss"].backward()
        terms["gradient_norm"] = torch.nn.utils.clip_grad_norm_(
            self.codec.parameters(), recipe.optimizer.clip_norm
        )
        self.optimizer.step()
        self._learn_books(output, books, update=learn_books)
        self.step += 1
        self.average.update(step)
        self._record(terms, output, waveform, books)

    def evaluate(
        self, codec: Codec, waveform: Tensor, books: Tensor, *, quantize: bool
    ) -> tuple[CodecOutput, dict[str, Tensor], dict[str, Part]]:
        """Reconstruct crops `[B, T]` with `books` `[B]` books each.

        Returns:
            The output; the terms of the loss by name, "loss" being the whole loss of the present step; and
            the parts that it is the weighted sum of.
        """
        recipe, weights = self.recipe, self.recipe.loss
        bfloat16 = recipe.precision == "bfloat16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=bfloat16):
            output = codec(waveform[:, None], num_codebooks=self._per_crop(books), quantize=quantize)
        loudness = weights.loudness_at(self.step)
        per_crop = self.criterion(
            waveform,
            output.waveform[:, 0],
            None if output.second is None else output.second[:, 0],
            loudness=loudness > 0,
            magnitude=weights.magnitude > 0,
        )
        used = books if quantize else torch.full_like(books, self.prefixes[-1])
        terms = {name: term.mean() for name, term in per_crop.items()}
        share = complex_weight(used, self.prefixes[-1])
        parts = {
            "complex_stft": Part(weights.complex_stft, (share * per_crop["complex_stft"]).mean()),
            "log_mel": Part(weights.log_mel, terms["log_mel"]),
        }
        if weights.magnitude > 0:
            parts["magnitude"] = Part(weights.magnitude, terms["magnitude"])
        if loudness > 0:
            parts["loudness"] = Part(loudness, terms["loudness"])
        if output.quantized is not None and output.quantized.losses:
            terms["commitment"] = torch.stack(list(output.quantized.losses.values())).sum()
            parts["commitment"] = Part(weights.commitment, terms["commitment"])
        return output, {"loss": total(parts), **terms}, parts

    def _per_crop(self, books: Tensor) -> Tensor | None:
        return books if len(self.prefixes) > 1 else None

    def _set_learning_rate(self, step: int) -> None:
        rate = self.recipe.optimizer.learning_rate * learning_rate_share(self.recipe.schedule, step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate

    def _start_books(self) -> None:
        latents = torch.cat(self._start).to(self.device)
        self.codec.quantizer.initialize(latents, generator=torch.Generator().manual_seed(self.recipe.seed))
        self._start = []
        self.average.reset()

    def _learn_books(self, output: CodecOutput, books: Tensor, *, update: bool) -> None:
        schedule = self.recipe.schedule
        if output.quantized is not None:
            if update:
                self.codec.quantizer.update(output.quantized.statistics)
            self.usage.update(output.quantized.codes, books)
        elif self.step >= schedule.unquantized - schedule.start_latents:
            latents = output.latents.detach().float()
            self._start.append(latents.mT.flatten(0, 1))

    @torch.no_grad()
    def _record(self, terms: dict[str, Tensor], output: CodecOutput, waveform: Tensor, books: Tensor) -> None:
        for name, term in terms.items():
            self._sums[name] = self._sums.get(name, torch.zeros((), device=self.device)) + term.detach()
        whole = books == self.prefixes[-1]
        if self.step % self.recipe.log_every == 0 and bool(whole.any()):
            reconstructed = output.waveform[:, 0][whole]
            self._sums["si_sdr"] = signal_to_distortion(waveform[whole], reconstructed) * self._steps_since
            if output.quantized is not None:
                error = relative_error(output.latents[whole], output.quantized.latents[whole])
                self._sums["relative_error"] = error * self._steps_since

    @property
    def _steps_since(self) -> int:
        return self.step - self._since[0]

    def _log(self) -> dict[str, object]:
        """Write the means since the last line to the log; return them.

        Raises:
            TrainingError: a figure is not finite.
        """
        now, steps = time.monotonic(), self._steps_since
        figures = {name: float(total) / steps for name, total in self._sums.items()}
        self._check_finite(figures)
        data = self.recipe.data
        speed = (
            steps
            * data.batch_size
            * data.crop_samples
            / self.audio.sample_rate
            / max(1e-9, now - self._since[1])
        )
        record: dict[str, object] = {
            "step": self.step,
            **{name: round(value, 6) for name, value in figures.items()},
            "learning_rate": self.optimizer.param_groups[0]["lr"],
            "audio_seconds_per_second": round(speed, 2),
        }
        if self.step > self.recipe.schedule.unquantized:
            perplexities = [round(value, 1) for value in self.usage.perplexities()]
            record["perplexity"] = perplexities
            record["perplexity_first"], record["perplexity_last"] = perplexities[0], perplexities[-1]
            if warnings := self.watch.warnings(self.step, self.usage, figures):
                record["warnings"] = warnings
        append_record(self.log_path, record)
        self._sums, self._since = {}, (self.step, now)
        return record

    def _check_finite(self, figures: dict[str, float]) -> None:
        bad = [name for name, value in figures.items() if not torch.isfinite(torch.tensor(value))]
        if bad:
            kept = checkpoints.find_checkpoints(self.output / "checkpoints")
            where = f"the last good checkpoint is {kept[-1]}" if kept else "there is no checkpoint yet"
            raise TrainingError(
                f"step {self.step}: {', '.join(bad)} not finite; {where}; "
                "lower the learning rate or check the data"
            )

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Return the loss of the running mean on held-out crops, with all books and the middle prefix."""
        crops = Crops(
            self.audio, self.recipe.data, prefixes=self.prefixes, seed=self.recipe.seed, held_out=True
        )
        middle = self.prefixes[(len(self.prefixes) - 1) // 2]
        sums: dict[str, float] = {}
        for index in range(_VALIDATION_BATCHES):
            waveform = torch.from_numpy(crops(index).waveform).to(self.device)
            for label, number in (("validation_loss", self.prefixes[-1]), ("validation_loss_middle", middle)):
                books = torch.full((len(waveform),), number, device=self.device)
                quantize = self.step > self.recipe.schedule.unquantized
                _, terms, _ = self.evaluate(self.average.codec, waveform, books, quantize=quantize)
                sums[label] = sums.get(label, 0.0) + float(terms["loss"]) / _VALIDATION_BATCHES
        return sums

    def save(self) -> Path:
        """Write a checkpoint, the curves and the tokenizer; return the tokenizer's folder."""
        if self._sums:
            self._check_finite({name: float(total) for name, total in self._sums.items()})
        tensors = {
            **{f"codec.{name}": tensor for name, tensor in checkpoints.module_tensors(self.codec).items()},
            **{f"average.{name}": tensor for name, tensor in self.average.tensors().items()},
            **{f"optimizer.{name}": t for name, t in checkpoints.optimizer_tensors(self.optimizer).items()},
            **checkpoints.start_latents(self._start),
            **(self.adversary.tensors(self.step) if self.adversary else {}),
        }
        checkpoints.write_checkpoint(
            self.output / "checkpoints",
            step=self.step,
            recipe=to_dict(self.recipe),
            data=self.audio.digest,
            tensors=tensors,
            keep=self.recipe.keep_checkpoints,
        )
        write_curves(read_records(self.log_path), self.output / "curves.svg", title=self.recipe.name)
        return self.export()

    def export(self) -> Path:
        """Write the tokenizer made of the running mean; an older one is replaced whole."""
        folder, fresh, old = (self.output / name for name in ("export", "export.partial", "export.old"))
        for leftover in (fresh, old):
            shutil.rmtree(leftover, ignore_errors=True)
        self.average.codec.save(fresh)
        if folder.exists():
            os.replace(folder, old)
        os.replace(fresh, folder)
        shutil.rmtree(old, ignore_errors=True)
        return folder

    def resume(self, *, allowed: bool = True) -> None:
        """Go on from the newest checkpoint of the output folder, if there is one.

        Raises:
            ConfigError: another recipe or other data, or a checkpoint although resuming is not allowed.
            CheckpointError: the checkpoint is damaged.
        """
        found = checkpoints.find_checkpoints(self.output / "checkpoints")
        if not found:
            self.output.mkdir(parents=True, exist_ok=True)
            truncate_log(self.log_path, 0)
            return
        if not allowed:
            raise ConfigError(f"{self.output}: holds a run already; resume it, or choose another folder")
        stored = checkpoints.read_checkpoint(found[-1])
        self.recipe = keep_timed_length(stored.recipe, self.recipe, where=str(self.output))
        check_same_run(stored.recipe, self.recipe, where=str(self.output), step=stored.step)
        if stored.data != self.audio.digest:
            raise ConfigError(
                f"{self.output}: the run was started with other data than {self.audio.path}; use those"
            )
        checkpoints.restore_tensors(
            checkpoints.module_tensors(self.codec), stored.part("codec."), stored.path
        )
        checkpoints.restore_tensors(self.average.tensors(), stored.part("average."), stored.path)
        checkpoints.restore_optimizer(self.optimizer, stored.part("optimizer."))
        if self.adversary:
            self.adversary.restore(stored.tensors, stored.step, stored.path)
        waiting = stored.part("start.")
        self._start = [waiting[name].to(self.device) for name in sorted(waiting)]
        self.step = stored.step
        self._since = (self.step, time.monotonic())
        truncate_log(self.log_path, self.step)

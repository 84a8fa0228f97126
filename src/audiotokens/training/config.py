"""A recipe: everything that decides a training run, as one YAML file.

Every section is a frozen dataclass; `audiotokens.config` makes an unknown or ill-typed key an error.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from audiotokens.config import from_dict, to_dict
from audiotokens.errors import ConfigError, MissingExtraError
from audiotokens.training.discriminator_config import (
    DiscriminatorConfig,
    PeriodDiscriminatorConfig,
    STFTDiscriminatorConfig,
)


@dataclass(frozen=True)
class DataConfig:
    """How crops are drawn from the packed audio.

    Args:
        batch_size: crops per step.
        crop_samples: length of a crop.
        gain: lowest and highest gain in dB; drawn uniformly.
        peak: the gain is lowered where a crop would exceed this.
        quiet_rms: crops below this root mean square are mostly refused,
        quiet_share: and kept with this probability.
        weights: factors by which files are drawn more often, by pattern of their name, such as
            {"*/librispeech/*": 4}; the first pattern that fits counts.
        speed: lowest and highest speed, drawn uniformly; pitch changes with it.
        all_books_share: share of crops that use every book; the others use 1 to K books, uniformly.
        validation_files: files, evenly spread over the pack, that are kept out of training.
    """

    batch_size: int = 12
    crop_samples: int = 12480
    gain: tuple[float, float] = (-10.0, 6.0)
    peak: float = 0.99
    quiet_rms: float = 0.002
    quiet_share: float = 0.2
    weights: dict[str, float] = field(default_factory=dict)
    speed: tuple[float, float] = (1.0, 1.0)
    all_books_share: float = 0.25
    validation_files: int = 0

    def __post_init__(self) -> None:
        if self.batch_size < 1 or self.crop_samples < 1024:
            raise ValueError(
                f"found batch_size {self.batch_size} and crop_samples {self.crop_samples}, "
                "expected at least 1 crop of at least 1024 samples"
            )
        if self.validation_files < 0:
            raise ValueError(f"found validation_files {self.validation_files}, expected 0 or more")
        if not 0.5 <= self.speed[0] <= self.speed[1] <= 2.0:
            raise ValueError(f"found speed {self.speed}, expected lowest and highest between 0.5 and 2")
        if any(weight <= 0 for weight in self.weights.values()):
            raise ValueError(f"found weights {self.weights}, expected factors above 0")


@dataclass(frozen=True)
class LossConfig:
    """Weights of the terms of the loss (`audiotokens.training.losses` defines them).

    Args:
        complex_stft: compressed complex spectrum; multiplied per crop by min(1.5, 2 books / K).
        log_mel: log mel spectrum.
        magnitude: compressed magnitudes at long windows, which resolve the harmonics of a voice.
        loudness: loudness with asymmetry,
        loudness_start: 0 until this step,
        loudness_full: and full from this step on, linear between.
        commitment: what the quantizer reports (already scaled by 0.25 / variance).
    """

    complex_stft: float = 0.5
    log_mel: float = 0.15
    magnitude: float = 0.0
    loudness: float = 0.30
    loudness_start: int = 150
    loudness_full: int = 300
    commitment: float = 1.0

    def loudness_at(self, step: int) -> float:
        """Weight of the loudness term at a step."""
        ramp = (step - self.loudness_start) / max(1, self.loudness_full - self.loudness_start)
        return self.loudness * min(1.0, max(0.0, ramp))


@dataclass(frozen=True)
class OptimizerConfig:
    """AdamW (Loshchilov and Hutter 2019), fused; the weight decay acts on matrices only.

    Args:
        learning_rate: highest learning rate.
        betas: decay of the running means.
        epsilon: added to the denominator.
        weight_decay: decoupled decay.
        clip_norm: the gradient is scaled down to this norm.
    """

    learning_rate: float = 2e-3
    betas: tuple[float, float] = (0.9, 0.99)
    epsilon: float = 1e-9
    weight_decay: float = 0.01
    clip_norm: float = 1.0


@dataclass(frozen=True)
class ScheduleConfig:
    """Length of the run and what happens when, in steps.

    Args:
        steps: planned length.
        warmup: linear rise of the learning rate, at the start and after each extension.
        final_share: the learning rate ends at this share of the highest.
        cooldown: the learning rate is constant but for the last so many steps before each end; until they
            begin, the length of a run can still be changed. 0: half a cosine over the whole course.
        unquantized: first steps without the quantizer.
        start_latents: the latents of the last so many of them start the books (k-means).
        extensions: later ends of the run, each a warm restart that begins where the former ended.
        timed: whether a run's time has decided `steps` and `cooldown` (`audiotokens.training.deadline`); not
            to be set in a recipe.
    """

    steps: int = 10000
    warmup: int = 100
    final_share: float = 0.03
    cooldown: int = 0
    unquantized: int = 300
    start_latents: int = 24
    extensions: tuple[int, ...] = ()
    timed: bool = False

    def __post_init__(self) -> None:
        ends = self.ends
        if self.steps < 1 or any(later <= former for former, later in zip(ends, ends[1:], strict=False)):
            raise ValueError(
                f"the ends of the run are {list(ends)}, expected positive rising numbers of steps"
            )
        if not 0 <= self.cooldown <= self.steps:
            raise ValueError(f"cooldown is {self.cooldown}, expected 0 to steps ({self.steps})")
        if not 0 <= self.start_latents <= self.unquantized:
            raise ValueError(
                f"start_latents is {self.start_latents}, expected 0 to unquantized ({self.unquantized})"
            )

    @property
    def ends(self) -> tuple[int, ...]:
        """Ends of the first course and of each extension."""
        return (self.steps, *self.extensions)

    @property
    def open_until(self) -> int:
        """Step up to which the planned length has had no effect on the run."""
        return self.steps - self.cooldown if self.cooldown else 0

    @property
    def last(self) -> int:
        """Number of steps of the whole run."""
        return self.ends[-1]


@dataclass(frozen=True)
class DiscriminatorOptimizerConfig(OptimizerConfig):
    """AdamW of the discriminators: a short memory, as is usual for them, and no decay."""

    learning_rate: float = 4e-4
    betas: tuple[float, float] = (0.5, 0.9)
    epsilon: float = 1e-8
    weight_decay: float = 0.0
    clip_norm: float = 10.0


@dataclass(frozen=True)
class BalancerConfig:
    """Weights as shares of the gradient (`audiotokens.training.adversarial.Balancer`).

    Args:
        decay: of the moving means of gradient norms.
        norm: of the summed gradient at the waveform.
        per_item: norm of each crop, instead of that of the batch.
    """

    decay: float = 0.999
    norm: float = 1.0
    per_item: bool = True


@dataclass(frozen=True)
class AdversarialConfig:
    """An adversarial phase, from a step to the end of the run.

    Args:
        start: first step of the phase.
        discriminators: any number of any kinds.
        conditional: whether their logits may depend on the number of books in use.
        alone: steps in which the discriminators learn before the codec hears of them.
        ramp: steps over which the weights then rise from 0.
        loss: "hinge" or "least-squares".
        features: feature matching "relative" to the size of the features, or "absolute".
        adversarial_weight: of the adversarial term,
        feature_weight: and of feature matching, beside the weights of the reconstruction terms.
        train: "all" of the codec, or the "decoder" only: encoder and books are frozen as they would be
            exported at the start, so that codes stay what they were.
        optimizer: of the discriminators; its learning rate follows the schedule of the codec's.
        balancer: makes the weights shares of the gradient; None adds the terms up.
        precision: of the discriminators, as in the recipe; None: that of the run.
    """

    start: int
    discriminators: tuple[DiscriminatorConfig, ...] = (
        STFTDiscriminatorConfig(
            windows=(256, 512, 1024), channels=24, kernel=(3, 5), dilations=(1, 1), spectrum="compressed"
        ),
        PeriodDiscriminatorConfig(),
    )
    conditional: bool = False
    alone: int = 500
    ramp: int = 1000
    loss: Literal["hinge", "least-squares"] = "hinge"
    features: Literal["relative", "absolute"] = "relative"
    adversarial_weight: float = 0.05
    feature_weight: float = 0.1
    train: Literal["all", "decoder"] = "all"
    optimizer: DiscriminatorOptimizerConfig = field(default_factory=DiscriminatorOptimizerConfig)
    balancer: BalancerConfig | None = None
    precision: Literal["float32", "bfloat16"] | None = None

    def __post_init__(self) -> None:
        if min(self.start, self.alone, self.ramp) < 0 or not self.discriminators:
            raise ValueError(
                f"start, alone and ramp are {self.start}, {self.alone} and {self.ramp}, expected 0 or more, "
                "and at least one discriminator"
            )

    @property
    def longest_window(self) -> int:
        """Samples of the longest STFT window of the discriminators; 0 if none has any."""
        return max((max(getattr(config, "windows", (0,))) for config in self.discriminators), default=0)

    def ramp_at(self, step: int) -> float:
        """Factor of the two weights at a step, 0 to 1."""
        done = step + 1 - self.start - self.alone
        return min(1.0, max(0.0, done / max(1, self.ramp)))


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a training run.

    Args:
        name: name of the tokenizer that is made.
        codec: configuration of the architecture.
        architecture: family, a key of `audiotokens.registry.architectures`.
        training_data: one sentence for the spec of the tokenizer.
        weights_license: SPDX identifier for the spec.
        seed: start of all random numbers.
        precision: of encoder and decoder; "bfloat16" is autocast with float32 weights.
        average_decay: of the running mean of weights that is exported; 0 turns it off.
        log_every: steps between lines of the log.
        checkpoint_every: steps between checkpoints,
        keep_checkpoints: of which the newest are kept.
        validate_every: steps between validations; 0 turns them off.
        data: the crops.
        loss: the loss.
        optimizer: the optimizer.
        schedule: length and phases.
        adversarial: discriminators and when they come in; None trains without.
        warm_start: tokenizer or checkpoint whose weights the run begins with
            (`audiotokens.training.warm_start`).
    """

    name: str
    codec: dict[str, Any]
    architecture: str = "gain-shape"
    training_data: str = ""
    weights_license: str = ""
    seed: int = 0
    precision: Literal["float32", "bfloat16"] = "float32"
    average_decay: float = 0.999
    log_every: int = 20
    checkpoint_every: int = 500
    keep_checkpoints: int = 2
    validate_every: int = 0
    data: DataConfig = field(default_factory=DataConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    adversarial: AdversarialConfig | None = None
    warm_start: str | None = None

    def __post_init__(self) -> None:
        if min(self.log_every, self.checkpoint_every, self.keep_checkpoints) < 1:
            raise ValueError("log_every, checkpoint_every and keep_checkpoints must be at least 1")
        if self.validate_every and not self.data.validation_files:
            raise ValueError("validate_every needs data.validation_files of 1 or more")
        longest = self.adversarial.longest_window if self.adversarial else 0
        if longest > self.data.crop_samples:
            raise ValueError(
                f"a discriminator's window of {longest} samples is longer than data.crop_samples "
                f"({self.data.crop_samples})"
            )
        if self.adversarial and self.adversarial.start < self.schedule.unquantized:
            raise ValueError(
                f"adversarial.start is {self.adversarial.start}, expected at least schedule.unquantized "
                f"({self.schedule.unquantized})"
            )

    def extended(self, steps: int) -> Recipe:
        """Return the recipe with a warm restart after its end that lasts until `steps` in total.

        Raises:
            ConfigError: `steps` is not beyond the present end.
        """
        if steps <= self.schedule.last:
            raise ConfigError(f"the run already has {self.schedule.last} steps, expected more, found {steps}")
        schedule = dataclasses.replace(self.schedule, extensions=(*self.schedule.extensions, steps))
        return dataclasses.replace(self, schedule=schedule)


def read_recipe(path: str | Path) -> Recipe:
    """Read a recipe from a YAML file.

    Raises:
        ConfigError: the file is missing, not YAML, or has an unknown, missing or ill-typed key.
        MissingExtraError: PyYAML is not installed.
    """
    try:
        import yaml
    except ImportError:
        raise MissingExtraError("reading recipes", "torch") from None
    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); expected a YAML recipe") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not YAML ({' '.join(str(error).split())})") from None
    return from_dict(Recipe, values, where=str(path))


def keep_timed_length(stored: object, recipe: Recipe, *, where: str) -> Recipe:
    """Return `recipe` with the length that a run's time has decided, if it has.

    Args:
        stored: the recipe of the run's checkpoint, as plain values.
        recipe: the recipe to go on with.
        where: what holds the checkpoint, for messages.
    """
    before = from_dict(Recipe, stored, where=where).schedule
    if not before.timed:
        return recipe
    schedule = dataclasses.replace(recipe.schedule, steps=before.steps, cooldown=before.cooldown, timed=True)
    return dataclasses.replace(recipe, schedule=schedule)


def check_same_run(stored: object, recipe: Recipe, *, where: str, step: int = 0) -> None:
    """Check that a checkpoint's recipe describes the same run as `recipe`.

    Later extensions may be new, and so may be the length and the cooldown of a run that has not begun to
    cool down, and an adversarial phase that has not begun.

    Args:
        stored: the recipe of the checkpoint, as plain values.
        recipe: the recipe to go on with.
        where: what holds the checkpoint, for messages.
        step: steps done.

    Raises:
        ConfigError: another setting differs; the message names it.
    """
    before = from_dict(Recipe, stored, where=where)
    old, new = to_dict(before), to_dict(recipe)
    if 0 < step <= min(before.schedule.open_until, recipe.schedule.open_until):
        for key in ("steps", "cooldown"):
            old["schedule"][key] = new["schedule"][key]
    starts = [either.adversarial.start for either in (before, recipe) if either.adversarial]
    if 0 < step <= min(starts, default=0):
        old["adversarial"] = new["adversarial"]
    free = ("log_every", "checkpoint_every", "keep_checkpoints", "validate_every", "warm_start")
    old["codec"] = {**new["codec"], **old["codec"]}
    known, given = old["schedule"].pop("extensions"), new["schedule"].pop("extensions")
    changed = [key for key in new if key not in free and old[key] != new[key]]
    if given[: len(known)] != known:
        changed.append("schedule.extensions")
    if changed:
        raise ConfigError(
            f"{where}: the run was started with other settings ({', '.join(changed)}); "
            "use the old recipe, or another output folder"
        )

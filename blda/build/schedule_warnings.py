"""Warnings about settings that a run is too short for, told before its first step."""

from __future__ import annotations

from collections.abc import Sequence

from blda.config.schema import Config

SMALLEST_PATH = 0.2
"""Learning rate times steps below which a network from random weights learns next to nothing.

AdamW moves a weight by at most about the learning rate a step. The demo, which learns, has 2e-3 * 700 = 1.4.
"""
FAST = 2e-3
"""Learning rate that suits a small network from random weights."""
TRIAL = 100
"""Runs of fewer steps try whether a config works, as rehearsals do, and are not told that they learn too little."""
MOMENTA = (0.999, 0.99, 0.9)
"""Momenta of the teacher to choose from."""


def schedule_warnings(config: Config, methods: Sequence[str]) -> list[str]:
    """Return one line for each setting that the run is too short for, with the key to set instead.

    methods: methods that the run trains; settings that none of them uses are left out.
    """
    warnings = [*_of_optimizer(config), *_of_log(config)]
    if set(methods) != {"source_only"}:
        warnings += _of_self_training(config)
    if "blda" in methods:
        warnings += _of_statistics(config)
    return warnings


def _of_optimizer(config: Config) -> list[str]:
    settings, steps, warnings = config.optimizer, config.training.steps, []
    if settings.warmup >= steps:
        warnings.append(
            f"optimizer.warmup is {settings.warmup} and training.steps {steps}, so the learning rate never reaches "
            f"{settings.lr:g}; set optimizer.warmup={steps // 10}"
        )
    if steps >= TRIAL and settings.lr * steps < SMALLEST_PATH and not _starts_trained(config):
        rate = "" if settings.lr >= FAST else f", optimizer.lr={FAST:g}"
        warnings.append(
            f"optimizer.lr is {settings.lr:g}: a network from random weights learns next to nothing in {steps} steps "
            f"of it; give more training.steps{rate} or model.encoder weights"
        )
    return warnings


def _of_log(config: Config) -> list[str]:
    steps, warnings = config.training.steps, []
    if config.evaluation.every > steps:
        warnings.append(
            f"evaluation.every is {config.evaluation.every} and training.steps {steps}, so only the end is evaluated; "
            f"set evaluation.every={max(steps // 4, 1)} to watch the scores on the way"
        )
    if config.log.every > steps:
        warnings.append(
            f"log.every is {config.log.every} and training.steps {steps}, so no loss is logged; "
            f"set log.every={max(steps // 20, 1)}"
        )
    return warnings


def _of_self_training(config: Config) -> list[str]:
    settings, steps, warnings = config.self_training, config.training.steps, []
    if settings.burn_in >= steps:
        warnings.append(
            f"self_training.burn_in is {settings.burn_in} and training.steps {steps}, so no step uses the target; "
            f"set self_training.burn_in={steps // 3}"
        )
    averages = settings.teacher is None and settings.momentum < 1
    if steps >= TRIAL and averages and _memory(settings.momentum) > steps:
        fit = next((momentum for momentum in MOMENTA if 5 * _memory(momentum) <= steps), MOMENTA[-1])
        warnings.append(
            f"self_training.momentum is {settings.momentum:g}, a memory of {_memory(settings.momentum):.0f} steps, and "
            f"training.steps {steps}, so the teacher is the plain mean of all students, the first ones too; "
            f"set self_training.momentum={fit:g}"
        )
    return warnings


def _of_statistics(config: Config) -> list[str]:
    updates = config.training.steps * config.training.accumulate
    if config.blda.warmup < updates:
        return []
    return [
        f"blda.warmup is {config.blda.warmup} and the run has {updates} updates of the statistics, which therefore "
        f"never average with blda.momentum={config.blda.momentum:g}; set blda.warmup={updates // 10}"
    ]


def _memory(momentum: float) -> float:
    """Return the steps that a moving average of this momentum reaches back."""
    return 1 / (1 - momentum)


def _starts_trained(config: Config) -> bool:
    """Return whether the network, or its encoder, starts from weights that were trained before."""
    encoder = config.model.encoder
    return any((config.model.weights, encoder.get("weights"), encoder.get("pretrained")))

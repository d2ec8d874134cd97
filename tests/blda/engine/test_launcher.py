"""A launcher's options take effect, or are refused with the command that works."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from blda.engine import launcher, runtime

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("environment", "refused"),
    [
        ({}, False),
        ({"WORLD_SIZE": "2"}, False),  # a cluster's, of the machines
        ({"WORLD_SIZE": "2", "LOCAL_RANK": "0", "RANK": "0"}, True),
        ({"WORLD_SIZE": "1", "LOCAL_RANK": "0", "RANK": "0", "MASTER_ADDR": "x"}, False),
        ({"ACCELERATE_USE_CPU": "true", "ACCELERATE_MIXED_PRECISION": "no"}, False),
        ({"ACCELERATE_USE_CPU": "true", "ACCELERATE_MIXED_PRECISION": "no", "MASTER_ADDR": "127.0.0.1"}, True),
        ({"MASTER_ADDR": "127.0.0.1"}, False),
    ],
)
def test_processes_that_would_train_apart_are_refused(environment, refused):
    if refused:
        with pytest.raises(ValueError, match="ACCELERATE_USE_CPU=true accelerate launch --multi_gpu"):
            launcher.require_processes(1, environment)
    else:
        launcher.require_processes(1, environment)
    launcher.require_processes(2, {"WORLD_SIZE": "2", "LOCAL_RANK": "0", "RANK": "0"})


def test_settings_of_the_launcher_agree_with_the_config_or_are_refused(monkeypatch):
    options: dict[str, str] = {}
    monkeypatch.setattr(launcher, "_arguments", lambda: options)
    bf16 = {"ACCELERATE_MIXED_PRECISION": "bf16"}
    assert launcher.agreed_precision("bf16", {"ACCELERATE_MIXED_PRECISION": "no"}) == "bf16"
    assert launcher.agreed_precision("bf16", bf16) == "bf16"
    with pytest.raises(ValueError, match=r"give training\.precision=bf16"):
        launcher.agreed_precision("no", bf16)
    assert launcher.agreed_precision(None, bf16) == "bf16"
    assert launcher.agreed_precision(None, {}) == "no"
    with pytest.raises(ValueError, match="told --mixed_precision fp8; use no, bf16, fp16"):
        launcher.agreed_precision(None, {"ACCELERATE_MIXED_PRECISION": "fp8"})
    options["--mixed_precision"] = "no"
    with pytest.raises(ValueError, match=r"give training\.precision=no"):
        launcher.agreed_precision("bf16", {"ACCELERATE_MIXED_PRECISION": "no"})
    options["--gradient_accumulation_steps"] = "4"
    launcher.require_accumulation(4, {})
    with pytest.raises(ValueError, match=r"give training\.accumulate=4"):
        launcher.require_accumulation(1, {})
    with pytest.raises(ValueError, match="needs a GPU"):
        launcher.require_precision("fp16", False)


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"ACCELERATE_USE_FSDP": "true"}, r"--use_fsdp.*whole network.*training\.checkpointing=true"),
        ({"ACCELERATE_USE_DEEPSPEED": "true"}, "--use_deepspeed.*leave it out"),
        ({"ACCELERATE_USE_MEGATRON_LM": "true"}, "--use_megatron_lm"),
        ({"ACCELERATE_DYNAMO_BACKEND": "INDUCTOR"}, r"--dynamo_backend inductor.*training\.compile=true"),
        ({"ACCELERATE_DYNAMO_BACKEND": "NO", "ACCELERATE_USE_FSDP": "false"}, None),
    ],
)
def test_launchers_that_split_or_compile_the_network_are_refused(environment, message):
    if message is None:
        launcher.require_whole_networks(environment)
    else:
        with pytest.raises(ValueError, match=message):
            launcher.require_whole_networks(environment)


def test_a_run_under_fsdp_ends_before_accelerate_starts(monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(ValueError, match="--use_fsdp"):
        runtime.start("no")


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1"])
def test_signals_that_end_a_process_stop_it_after_the_step(name):
    if not hasattr(signal, name):
        pytest.skip(f"this system has no {name}")
    number = getattr(signal, name)
    before = signal.signal(number, signal.SIG_DFL)  # under nohup a hangup is ignored
    try:
        with runtime.StopSignal() as stop:
            assert stop.received is None
            signal.raise_signal(number)
            assert stop.received == name
    finally:
        signal.signal(number, before)


def test_an_ignored_hangup_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with runtime.StopSignal() as stop:
            signal.raise_signal(signal.SIGHUP)
            assert stop.received is None
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_lost_launcher_is_noticed():
    """The launcher starts a process and dies; without a launcher a lost parent is nobody's loss."""
    child = (
        "import sys, time; from blda.engine import runtime; stop = runtime.StopSignal(); "
        "print('ready', stop.received, flush=True); "
        "began = time.time()\n"
        "while stop.received is None and time.time() - began < 5: time.sleep(0.05)\n"
        "print(stop.received, flush=True)"
    )
    parent = "import subprocess, sys, os; p = subprocess.Popen([sys.executable, '-c', sys.argv[1]]); sys.stdin.read(1)"
    for launched, said in (({"LOCAL_RANK": "0"}, "the loss of its launcher"), ({}, "None")):
        process = subprocess.Popen(
            [sys.executable, "-c", parent, child],
            env={**{k: v for k, v in os.environ.items() if k != "LOCAL_RANK"}, **launched, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout.readline() == "ready None\n"
        process.kill()
        assert process.stdout.readline().strip() == said


@pytest.mark.parametrize(
    ("environment", "threads"),
    [
        ({}, 3),
        ({"OMP_NUM_THREADS": "1", "ACCELERATE_MIXED_PRECISION": "no"}, 3),
        ({"OMP_NUM_THREADS": "1"}, 1),
    ],
)
def test_one_process_takes_all_cores_unless_its_user_asked_for_fewer(environment, threads, monkeypatch):
    """`accelerate launch` sets the number by itself."""
    for name in ("OMP_NUM_THREADS", "ACCELERATE_MIXED_PRECISION", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(runtime, "cores", lambda: 3)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        runtime.start("no")
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)

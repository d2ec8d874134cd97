"""Ahead-of-time compilation of Triton kernels for GPUs that are not present, and the resources that they need."""

from __future__ import annotations

import inspect
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

TYPES = {
    torch.float64: "fp64",
    torch.float32: "fp32",
    torch.float16: "fp16",
    torch.bfloat16: "bf16",
    torch.int64: "i64",
    torch.int8: "i8",
}


class Launch(NamedTuple):
    """A launch of a kernel: its arguments by name, and its number of warps."""

    kernel: Any
    arguments: dict[str, Any]
    warps: int


class Resources(NamedTuple):
    """Resources of a thread of a compiled kernel: registers, and bytes spilled to memory."""

    registers: int
    spilled: int


def launches(module: ModuleType, work: Callable[[], object], monkeypatch: Any) -> list[Launch]:
    """Record the launches of a module's kernels during `work`, without running them."""
    recorded: list[Launch] = []

    class Recorder:
        def __init__(self, kernel: Any) -> None:
            self.kernel = kernel

        def __getitem__(self, grid: Any) -> Callable[..., None]:
            return self.record

        def record(self, *values: Any, num_warps: int) -> None:
            recorded.append(Launch(self.kernel, dict(zip(self.kernel.arg_names, values, strict=True)), num_warps))

    with monkeypatch.context() as patch:
        for name, kernel in vars(module).copy().items():
            if isinstance(kernel, triton.JITFunction):
                patch.setattr(module, name, Recorder(kernel))
        work()
    return recorded


def compiled(launch: Launch, capability: int) -> str:
    """Compile a launch to PTX for compute capability major * 10 + minor, specialised as Triton does at a launch."""
    names = launch.kernel.arg_names
    fixed = {name for name, parameter in zip(names, launch.kernel.params, strict=True) if parameter.is_constexpr}
    ones = {name for name, value in launch.arguments.items() if type(value) is int and value == 1} - fixed
    constants = {name: launch.arguments[name] for name in names if name in fixed | ones}
    types = {name: _type(value) for name, value in launch.arguments.items() if name not in constants}
    even = [name for name in types if _even(launch.arguments[name])]
    source = _source(launch.kernel, types, constants, even, ones)
    made = triton.compile(source, target=GPUTarget("cuda", capability, 32), options={"num_warps": launch.warps})
    return made.asm["ptx"]


def resources(ptx: str, capability: int) -> Resources:
    """Assemble the PTX of one kernel, and read the registers and spills that the assembler reports."""
    architecture = re.search(r"\.target (\w+)", ptx)[1]
    command = [str(assembler(capability)), "-v", f"--gpu-name={architecture}", "-o", "/dev/null", "-"]
    output = subprocess.run(command, input=ptx, capture_output=True, text=True, check=True).stderr
    spilled = sum(int(size) for size in re.findall(r"(\d+) bytes spill (?:stores|loads)", output))
    return Resources(int(re.search(r"Used (\d+) registers", output)[1]), spilled)


def assembler(capability: int) -> Path:
    """Return the path of the ptxas that this Triton has for a compute capability."""
    folder = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
    newer = folder / "ptxas-blackwell"
    return newer if capability >= 100 and newer.exists() else folder / "ptxas"


def knows(capability: int) -> bool:
    """Tell whether this Triton's assembler knows a compute capability."""
    tool = assembler(capability)
    if not tool.exists():
        return False
    known = subprocess.run([str(tool), "--help"], capture_output=True, text=True, check=True).stdout
    return re.search(rf"\bsm_{capability}\b", known) is not None


def _type(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        return f"*{TYPES[value.dtype]}"
    return "fp32" if isinstance(value, float) else "i32" if value < 2**31 else "i64"


def _even(value: Any) -> bool:
    """Tell whether Triton may assume that a pointer or number is divisible by 16."""
    return isinstance(value, torch.Tensor) or (type(value) is int and value % 16 == 0)


def _source(kernel: Any, types: dict, constants: dict, even: list[str], ones: set[str]) -> ASTSource:
    index = kernel.arg_names.index
    if "constexprs" in inspect.signature(ASTSource.__init__).parameters:
        signature = {name: types.get(name, "constexpr") for name in kernel.arg_names}
        attributes = {(index(name),): [["tt.divisibility", 16]] for name in even}
        return ASTSource(kernel, signature, {(index(name),): value for name, value in constants.items()}, attributes)
    from triton.backends.compiler import AttrsDescriptor  # Triton 3.2

    hints = {**{index(name): 16 for name in even}, **{index(name): 1 for name in ones}}
    return ASTSource(kernel, types, constants, AttrsDescriptor.from_hints(hints))

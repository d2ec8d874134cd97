"""Compiles Triton kernels for GPUs that are not there, as they would be launched, and reads what they take."""

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
    """A kernel and what it was launched with."""

    kernel: Any
    arguments: dict[str, Any]
    warps: int


class Resources(NamedTuple):
    """What a thread of a compiled kernel takes: registers, and bytes of memory for what does not fit into them."""

    registers: int
    spilled: int


def launches(module: ModuleType, work: Callable[[], object], monkeypatch: Any) -> list[Launch]:
    """The launches of a module's kernels during `work`, recorded instead of run."""
    found: list[Launch] = []

    class Recorder:
        def __init__(self, kernel: Any) -> None:
            self.kernel = kernel

        def __getitem__(self, grid: Any) -> Callable[..., None]:
            return self.record

        def record(self, *values: Any, num_warps: int) -> None:
            found.append(Launch(self.kernel, dict(zip(self.kernel.arg_names, values, strict=True)), num_warps))

    with monkeypatch.context() as patch:
        for name, kernel in vars(module).copy().items():
            if isinstance(kernel, triton.JITFunction):
                patch.setattr(module, name, Recorder(kernel))
        work()
    return found


def compiled(launch: Launch, capability: int) -> str:
    """PTX of a launch for compute capability major * 10 + minor, specialised as Triton does at a launch."""
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
    """Registers and spills that the assembler reports for PTX of one kernel."""
    architecture = re.search(r"\.target (\w+)", ptx)[1]
    command = [str(assembler(capability)), "-v", f"--gpu-name={architecture}", "-o", "/dev/null", "-"]
    said = subprocess.run(command, input=ptx, capture_output=True, text=True, check=True).stderr
    spilled = sum(int(size) for size in re.findall(r"(\d+) bytes spill (?:stores|loads)", said))
    return Resources(int(re.search(r"Used (\d+) registers", said)[1]), spilled)


def assembler(capability: int) -> Path:
    """The ptxas that this Triton brings for a compute capability."""
    folder = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
    newer = folder / "ptxas-blackwell"
    return newer if capability >= 100 and newer.exists() else folder / "ptxas"


def knows(capability: int) -> bool:
    """Whether this Triton's assembler knows a compute capability."""
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
    """Whether Triton may count on a pointer's or number's being divisible by 16."""
    return isinstance(value, torch.Tensor) or (type(value) is int and value % 16 == 0)


def _source(kernel: Any, types: dict, constants: dict, even: list[str], ones: set[str]) -> ASTSource:
    index = kernel.arg_names.index
    if "constexprs" in inspect.signature(ASTSource.__init__).parameters:
        signature = {name: types.get(name, "constexpr") for name in kernel.arg_names}
        attributes = {(index(name),): [["tt.divisibility", 16]] for name in even}
        return ASTSource(kernel, signature, {(index(name),): value for name, value in constants.items()}, attributes)
    from triton.compiler import AttrsDescriptor  # until Triton 3.1

    attributes = AttrsDescriptor(tuple(map(index, even)), tuple(map(index, ones)))
    by_index = ({index(name): value for name, value in given.items()} for given in (types, constants))
    return ASTSource(kernel, *by_index, attributes)

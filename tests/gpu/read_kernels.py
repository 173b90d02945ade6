"""Make graph_tools/cuda_kernels.json anew from an installed onnxruntime-gpu: ``python -m tests.gpu.read_kernels``.

The registrations are code, not data: one function per kernel builds its KernelDef through the virtual table of the
provider bridge (core/providers/shared_library/provider_interfaces.h, struct ProviderHost), in the order construct,
type constraints, SetName, SetDomain, SinceVersion, Provider. They are read from the disassembly (binutils' objdump) of
libonnxruntime_providers_cuda.so, no GPU needed. The slots of that table differ between releases: those below are
1.31's, and a library that does not fit them is refused.
"""

from __future__ import annotations

import importlib.metadata
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from graph_tools.cuda_kernels import JUDGED

TABLE = Path(__file__).resolve().parents[2] / "graph_tools" / "cuda_kernels.json"
RELEASE = "1.31."
CONSTRUCT, NAME, DOMAIN, SINCE, SINCE_UNTIL, PROVIDER, CONSTRAINTS, CONSTRAINT = (
    0xAF8, 0xB08, 0xB10, 0xB18, 0xB20, 0xB28, 0xB30, 0xB38,
)  # fmt: skip
TYPES = dict(zip(range(0xCA8, 0xD10, 8), JUDGED, strict=True))
SETS = {slot: set(TYPES.values()) for slot in (0xE10, 0xE20, 0xE28, 0xE58, 0xE68, 0xE88, 0xE98)}
SETS[0xE50] = {"float", "double", "float16"}  # AllIEEEFloatTensorTypes
SLOT_CALL = re.compile(r"call +\*0x([0-9a-f]+)\(%rax\)")
SLOT_LOAD = re.compile(r"mov +0x([0-9a-f]+)\(%rax\),%rax")
DIRECT_CALL = re.compile(r"call +([0-9a-f]+) ")
ADDRESS = re.compile(r"lea .*\(%rip\),%(\w+) +# ([0-9a-f]+)")
NUMBER = re.compile(r"mov +\$0x([0-9a-f]+),%(edx|ecx)$")


class Library:
    """The library's bytes and code."""

    def __init__(self, path: Path) -> None:
        self.path, self.bytes = path, path.read_bytes()
        headers = self._run("objdump", "-h", str(path))
        sections = re.findall(r"^ *\d+ (\.\w+) +(\w+) +(\w+) +\w+ +(\w+)", headers, re.MULTILINE)
        self.sections = {n: (int(vma, 16), int(size, 16), int(off, 16)) for n, size, vma, off in sections}

    def code(self) -> Iterator[tuple[int, str]]:
        """(address, instruction) in order."""
        start, size, _ = self.sections[".text"]
        command = ["objdump", "-d", "--no-show-raw-insn", "--section=.text", str(self.path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for line in process.stdout:
                address, colon, text = line.partition(":\t")
                if colon and start <= int(address, 16) < start + size:
                    yield int(address, 16), text.strip()

    def text_at(self, address: int) -> str:
        """The C string there; "" outside the constants."""
        start, size, offset = self.sections[".rodata"]
        if not start <= address < start + size:
            return ""
        at = offset + address - start
        return self.bytes[at : self.bytes.index(b"\0", at)].decode("latin1")

    @staticmethod
    def _run(*command: str) -> str:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def registrations(library: Library) -> Iterator[dict[str, Any]]:
    """One mapping per kernel: name, domain, since, until (None: open), constraints {parameter: types}."""
    wanted: dict[str, Any] = {}
    registers: dict[str, int] = {}
    pending: list[int] = []  # slots and functions called since the last constraint, each a type or a set of them
    waiting: list[dict[str, Any]] = []
    functions: dict[int, list[int]] = {}
    inside: list[int] = []
    for address, text in library.code():
        if text.startswith("endbr64"):
            inside = functions.setdefault(address, [])
        if m := ADDRESS.search(text):
            registers[m[1]] = int(m[2], 16)
        elif m := NUMBER.search(text):
            registers[m[2]] = int(m[1], 16)
        elif m := SLOT_CALL.search(text):
            slot = int(m[1], 16)
            inside.append(slot)
            if slot == CONSTRUCT:
                wanted, pending = {"constraints": {}}, []
            elif slot in (CONSTRAINT, CONSTRAINTS):
                wanted.setdefault("constraints", {})[library.text_at(registers.get("rdx", 0))] = pending
                pending = []
            elif slot in (NAME, DOMAIN):
                wanted["name" if slot == NAME else "domain"] = library.text_at(registers.get("rdx", 0))
            elif slot in (SINCE, SINCE_UNTIL):
                wanted["since"] = registers.get("edx", 0)
                wanted["until"] = registers.get("ecx") if slot == SINCE_UNTIL else None
            elif slot == PROVIDER and library.text_at(registers.get("rdx", 0)) == "CUDAExecutionProvider":
                waiting.append(wanted)
                wanted = {}
            else:
                pending.append(slot)
            registers = {}
        elif m := SLOT_LOAD.search(text):
            inside.append(int(m[1], 16))
        elif m := DIRECT_CALL.search(text):
            inside.append(int(m[1], 16))
            pending.append(int(m[1], 16))
    for kernel in waiting:
        made = {p: set().union(*(_types(c, functions) for c in called)) for p, called in kernel["constraints"].items()}
        yield {**kernel, "constraints": made}


def _types(called: int, functions: dict[int, list[int]], depth: int = 0) -> set[str]:
    """The types that a slot of the table, or a function that calls such slots, stands for."""
    if called in TYPES:
        return {TYPES[called]}
    if called in SETS:
        return SETS[called]
    if depth == 3:
        return set()
    return set().union(*(_types(c, functions, depth + 1) for c in functions.get(called, ())))


def merge(
    kernels: list[tuple[int, int | None, dict[str, set[str]]]],
) -> list[tuple[int, int | None, dict[str, set[str]]]]:
    """Join registrations of the same versions that differ in the types of one parameter only."""
    merged: list[tuple[int, int | None, dict[str, set[str]]]] = []
    for since, until, types in kernels:
        for other_since, other_until, other in merged:
            differ = [p for p in types if types[p] != other.get(p)]
            if (since, until) == (other_since, other_until) and types.keys() == other.keys() and len(differ) <= 1:
                for p in differ:
                    other[p] |= types[p]
                break
        else:
            merged.append((since, until, {p: set(t) for p, t in types.items()}))
    return merged if len(merged) == len(kernels) else merge(merged)


def table(library: Library) -> dict[str, list[list[Any]]]:
    """Operator -> [since, until, {parameter: types}], sorted.

    Raises:
        SystemExit: the library does not have the virtual table that the slots above describe.
    """
    found: dict[str, list[tuple[int, int | None, dict[str, set[str]]]]] = {}
    for k in registrations(library):
        if k["domain"] in ("", "com.microsoft"):
            name = k["name"] if not k["domain"] else f"{k['domain']}::{k['name']}"
            found.setdefault(name, []).append((k["since"], k["until"], k["constraints"]))
    relu = found.get("Relu", [])
    if (14, None) not in {(s, u) for s, u, _ in relu} or {"float"} not in [t.get("T") for _, _, t in relu]:
        raise SystemExit("Relu 14 is not there: the slots are another release's")
    return {
        name: [
            [since, until, {p: _joined(types) for p, types in sorted(constraints.items())}]
            for since, until, constraints in sorted(merge(found[name]), key=lambda k: (k[0], sorted(k[2])))
        ]
        for name in sorted(found)
    }


def _joined(types: set[str]) -> str:
    """``float float16``, or ``*`` for every type."""
    every = list(TYPES.values())
    return "*" if len(types) == len(every) else " ".join(t for t in every if t in types)


def main() -> None:
    """Write the table."""
    package = importlib.metadata.distribution("onnxruntime-gpu")
    if not package.version.startswith(RELEASE):
        raise SystemExit(f"the slots are those of {RELEASE}x, this is {package.version}")
    path = Path(str(package.locate_file("onnxruntime/capi/libonnxruntime_providers_cuda.so")))
    kernels = table(Library(path))
    source = f"kernel registrations of libonnxruntime_providers_cuda.so, wheel onnxruntime-gpu {package.version}"
    rows = ",\n".join(f"  {json.dumps(name)}: {json.dumps(entries)}" for name, entries in kernels.items())
    head = f'{{"source": {json.dumps(source)},\n "version": {json.dumps(package.version)},\n "kernels": {{\n'
    TABLE.write_text(f"{head}{rows}\n}}}}\n", encoding="utf-8")
    count = sum(map(len, kernels.values()))
    sys.stdout.write(f"{len(kernels)} operators, {count} entries: {TABLE}\n")


if __name__ == "__main__":
    main()

"""python cortex_m0.py FILE BYTES ANSWERS: runs a network on an emulated Cortex-M0.

FILE is a linked ELF file for thumbv6m-none-eabi with the functions `input`, `output` and `run`, as the
suite's `source::a_cortex_m0_has_the_interpreters_bits` makes it. Images of BYTES bytes come on standard
input, one after the other; the ANSWERS bytes of each output go to standard output, a number a line. The
emulator is the package unicorn 2.1.4 with the CPU model Cortex-M0, so that an instruction which that
processor has not ends the program.
"""

import struct
import sys

from unicorn import UC_ARCH_ARM, UC_MODE_MCLASS, UC_MODE_THUMB, Uc
from unicorn.arm_const import UC_ARM_REG_LR, UC_ARM_REG_R0, UC_ARM_REG_SP, UC_CPU_ARM_CORTEX_M0

PAGE = 0x1000
STACK = 0x7000_0000
STACK_BYTES = 0x4000
STOP = 0x7100_0000


def segments(elf):
    """Address, bytes and size in memory of what is loaded."""
    start, size, count = *struct.unpack_from("<I", elf, 0x1C), *struct.unpack_from("<HH", elf, 0x2A)
    for at in range(start, start + size * count, size):
        kind, offset, address, _, in_file, in_memory = struct.unpack_from("<6I", elf, at)
        if kind == 1:
            yield address, elf[offset : offset + in_file], in_memory


def symbols(elf):
    """The addresses of names."""
    start, size, count = *struct.unpack_from("<I", elf, 0x20), *struct.unpack_from("<HH", elf, 0x2E)
    sections = [struct.unpack_from("<10I", elf, start + i * size) for i in range(count)]
    found = {}
    for _, kind, _, _, offset, length, link, *_ in sections:
        if kind != 2:
            continue
        names = sections[link][4]
        for at in range(offset, offset + length, 16):
            name, value = struct.unpack_from("<2I", elf, at)
            end = elf.index(b"\0", names + name)
            found[elf[names + name : end].decode()] = value
    return found


class Processor:
    def __init__(self, elf):
        self.emulator = Uc(UC_ARCH_ARM, UC_MODE_THUMB | UC_MODE_MCLASS)
        self.emulator.ctl_set_cpu_model(UC_CPU_ARM_CORTEX_M0)
        self.functions = symbols(elf)
        pages = set()
        for address, _, size in segments(elf):
            pages.update(range(address // PAGE, (address + size + PAGE - 1) // PAGE))
        for page in sorted(pages):
            self.emulator.mem_map(page * PAGE, PAGE)
        for address, content, _ in segments(elf):
            self.emulator.mem_write(address, content)
        self.emulator.mem_map(STACK, STACK_BYTES)
        self.emulator.mem_map(STOP, PAGE)

    def call(self, name):
        self.emulator.reg_write(UC_ARM_REG_SP, STACK + STACK_BYTES)
        self.emulator.reg_write(UC_ARM_REG_LR, STOP | 1)
        self.emulator.emu_start(self.functions[name] | 1, STOP)
        return self.emulator.reg_read(UC_ARM_REG_R0)

    def run(self, image, answers):
        self.emulator.mem_write(self.call("input"), image)
        if self.call("run") != 0:
            sys.exit("an input is beyond its limits")
        return self.emulator.mem_read(self.call("output"), answers)


def main(path, size, answers):
    with open(path, "rb") as file:
        processor = Processor(file.read())
    given = sys.stdin.buffer.read()
    for at in range(0, len(given), size):
        for byte in processor.run(given[at : at + size], answers):
            print(byte)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))

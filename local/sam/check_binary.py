"""Checks that a binary is an ELF file for the architecture, static and without symbols.

usage: check_binary.py FILE x86_64|arm64
"""

import struct
import sys

MACHINES = {"x86_64": 62, "arm64": 183}
PT_DYNAMIC, PT_INTERP = 2, 3
SHT_SYMTAB = 2


def main(path, architecture):
    with open(path, "rb") as file:
        elf = file.read()
    if elf[:6] != b"\x7fELF\x02\x01":
        return f"{path} is not a 64-bit ELF file"
    (machine,) = struct.unpack_from("<H", elf, 18)
    if machine != MACHINES[architecture]:
        return f"{path} is not for {architecture}"
    programs, sections = struct.unpack_from("<QQ", elf, 32)
    program_size, program_count, section_size, section_count = struct.unpack_from("<HHHH", elf, 54)
    types = {struct.unpack_from("<I", elf, programs + i * program_size)[0] for i in range(program_count)}
    if types & {PT_DYNAMIC, PT_INTERP}:
        return f"{path} is not static"
    types = {struct.unpack_from("<I", elf, sections + i * section_size + 4)[0] for i in range(section_count)}
    if SHT_SYMTAB in types:
        return f"{path} has symbols"
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

# SPDX-License-Identifier: GPL-2.0-or-later
"""How fast predictions on request are, beside the plainest program that walks an EPT.

Both answer the same requests (4 levels, 4 to 8 words of memory each) in turns, in one process on
one core.  The ratio of the two rates is what says something on any machine: each request is one
json.loads and one json.dumps for both, and the rest is what the models cost.
"""

from __future__ import annotations

import json
import random
import time

from gdb_nept.predict.model import model
from gdb_nept.predict.request import answer_lines

PIECE = 5000  # requests in one turn
KINDS = {"read": 1, "write": 2, "fetch": 4, "rmw": 3}


def requests(count: int) -> list[str]:
    """Tables of 4 levels, some with 2-MByte pages; half of the paths lack a right or an entry."""
    dice = random.Random(2012)
    return [json.dumps(request(dice, number)) for number in range(count)]


def request(dice: random.Random, number: int) -> dict[str, object]:
    gpa = dice.randrange(1 << 36) & ~7
    memory, table = {}, 0x1000
    last = dice.choice((1, 1, 1, 1, 2))
    spoiled = dice.choice((0, 0, 0, 0, 1, 2, 3, 4))
    for level in range(4, last - 1, -1):
        page = dice.randrange(1, 1 << 15) << 21
        entry = page | (7 if level != spoiled else dice.choice((0, 1, 3, 5)))
        if level == last:
            entry |= 0x30 | (0x80 if level > 1 else 0)
        memory[hex(table + (gpa >> (12 + 9 * (level - 1)) & 511) * 8)] = hex(entry)
        table = page
    for _ in range(dice.randrange(1, 5)):
        memory[hex(dice.randrange(1 << 36) & ~7)] = hex(dice.randrange(1 << 52))
    return {
        "id": number,
        "eptp": hex(dice.choice((0x101E, 0x105E))),
        "ept_caps": "0xf0106734141",
        "maxphyaddr": 39,
        "mbec": False,
        "memory": memory,
        "access": {
            "gpa": hex(gpa),
            "op": dice.choice(tuple(KINDS)),
            "user": dice.random() < 0.3,
            "stage": dice.choice(("final", "final", "final", "walk")),
            "gla": hex(dice.randrange(1 << 47)),
        },
    }


def plain(line: str) -> str:
    """The yardstick: no models, no reasons, no checks of its input, a few keys of the answer."""
    asked = json.loads(line)
    access = asked["access"]
    memory = {int(place, 0): int(word, 0) for place, word in asked["memory"].items()}
    gpa, table = int(access["gpa"], 0), int(asked["eptp"], 0) & ~0xFFF
    reserved = (1 << 52) - (1 << asked["maxphyaddr"])
    kind, rights, steps = KINDS[access["op"]], 7, []
    outcome, hpa = "violation", None
    for level in (4, 3, 2, 1):
        index = gpa >> (12 + 9 * (level - 1)) & 511
        entry = memory.get(table + 8 * index, 0)
        steps.append({"level": level, "address": hex(table + 8 * index), "entry": hex(entry)})
        if not entry & 7:
            rights = 0
            break
        leaf = level == 1 or (level < 4 and entry & 0x80)
        if entry & 3 == 2 or entry & reserved or (not leaf and entry & 0xF8):
            outcome = "misconfig"
            break
        rights &= entry
        if leaf:
            size = 1 << (12 + 9 * (level - 1))
            if not kind & ~rights:
                outcome, hpa = "translated", hex(entry & reserved - size | gpa & (size - 1))
            break
        table = entry & 0xFFFFFFFFFF000
    answer = {
        "id": asked["id"],
        "outcome": outcome,
        "exit_reason": {"violation": 48, "misconfig": 49}.get(outcome),
        "exit_qualification": hex(kind | rights << 3 | 0x180) if outcome == "violation" else "0x0",
        "guest_physical_address": hex(gpa),
        "guest_linear_address": access["gla"],
        "hpa": hpa,
        "steps": steps,
    }
    return json.dumps(answer)


def rates(count: int) -> tuple[float, float]:
    """Requests answered in a second of one core: ours, and the plain walker's."""
    lines, sdm = requests(count), model("sdm")
    ours = plainest = 0.0
    for start in range(0, count, PIECE):
        piece = lines[start : start + PIECE]
        begin = time.process_time()
        for _ in answer_lines(piece, sdm):
            pass
        between = time.process_time()
        for line in piece:
            plain(line)
        ours += between - begin
        plainest += time.process_time() - between
    return count / ours, count / plainest


def main(count: int) -> int:
    ours, plainest = rates(count)
    print(f"{count} requests: ours {ours:.0f}/s of one core, the plain walker {plainest:.0f}/s")
    print(f"ratio {ours / plainest:.2f}")
    return 0

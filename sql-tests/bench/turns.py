"""How contestants are measured beside each other, whatever it is that they are asked."""

import math
import time
from collections.abc import Callable
from decimal import Decimal, InvalidOperation

from report import Part, one_line

# Runs and returns its seconds and its answer.
Contestant = Callable[[], tuple[float, object]]
# How far apart two answers may be of which one is of floating point numbers.
RELATIVE_TOLERANCE = 1e-9


def take_turns(part: Part, what: str, runs: dict[str, int], contestants: dict[str, Contestant]) -> dict[str, float]:
    """The best seconds of each contestant, by name; `runs` says how often each of them is asked.

    They take turns run by run, so that a machine's noise hits all alike. One that fails is told and left out, and
    answers that differ are told.
    """
    best: dict[str, float] = {}
    answers: list[tuple[object, list[str]]] = []
    names = list(contestants)
    for run in range(max(runs[name] for name in names)):
        first = run % len(names)
        for name in names[first:] + names[:first]:
            if run >= runs[name] or (run > 0 and name not in best):
                continue
            try:
                seconds, answer = contestants[name]()
            except Exception as error:  # Whatever goes wrong with one must not hide what the others do.
                part.fail(f"{what}, {name}: {one_line(error)}")
                best.pop(name, None)
                continue
            best[name] = min(seconds, best.get(name, seconds))
            for known, its_names in answers:
                if same(known, answer):
                    its_names.append(name)
                    break
            else:
                answers.append((answer, [name]))
    if len(answers) > 1:
        found = "; ".join(f"{', '.join(sorted(set(its_names)))}: {answer}" for answer, its_names in answers)
        part.fail(f"{what}: the answers differ: {found}")
    times = (f"{name} {best[name]:8.4f} s" if name in best else f"{name} failed" for name in names)
    print(f"{what:25}", *times, sep="  ", flush=True)
    return best


def timed(run, sql: str, answer_of) -> Contestant:
    """A contestant that runs a query and fetches all of its result."""

    def contestant() -> tuple[float, object]:
        started = time.perf_counter()
        rows = run(sql)
        return time.perf_counter() - started, answer_of(rows)

    return contestant


def comparable(rows) -> list[list[str | float]]:
    """Rows of texts that are equal when the values are: 1.50 from one contestant is 1.5000 from another.

    A floating point number stays one, because it is equal to others only nearly.
    """

    def cell_of(cell) -> str | float:
        if isinstance(cell, float):
            return cell
        try:
            return format(Decimal(str(cell)).normalize(), "f")
        except InvalidOperation:
            return str(cell)

    return [[cell_of(cell) for cell in row] for row in rows]


def same(one: object, other: object) -> bool:
    """Whether two answers are: row by row if they have rows of `comparable`."""
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float) or isinstance(other, float):
        try:
            return math.isclose(float(one), float(other), rel_tol=RELATIVE_TOLERANCE)
        except (TypeError, ValueError):
            return False
    return one == other

"""What a part of the bench found, and the table that all parts make together."""

import json
import os
import platform
import sys
import traceback
from datetime import datetime, timezone
from pathlib import Path

PARTS = ("tpch", "cassandra", "cassandra_memory", "memory")
MOST_ERROR_CHARACTERS = 400


class Part:
    """The results of one part, written to a file at the end of a `with`. Failures and notes are told at once, too."""

    def __init__(self, name: str, settings: dict, output: Path) -> None:
        self.name, self.settings, self.output = name, settings, output
        self.versions: dict[str, str] = {}
        self.measures: list[dict] = []
        self.details: dict[str, dict] = {}
        self.notes: list[str] = []
        self.failures: list[str] = []

    def fail(self, words: str) -> None:
        print(f"bench: FAILED: {words}", file=sys.stderr, flush=True)
        self.failures.append(words)

    def note(self, words: str) -> None:
        print(f"bench: {words}", flush=True)
        self.notes.append(words)

    def measure(
        self,
        what: str,
        unit: str,
        sluice: float | None,
        peer: str = "",
        value: float | None = None,
        aim: float | None = None,
    ) -> None:
        """One line of the table. `aim` is the largest ratio of Sluice's value to the peer's that is good enough."""
        ratio = sluice / value if sluice is not None and value else None
        self.measures.append(
            {
                "measure": what,
                "unit": unit,
                "sluice": sluice,
                "peer": peer,
                "peer_value": value,
                "ratio": ratio,
                "aim": aim,
            }
        )

    def __enter__(self) -> "Part":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: object) -> None:
        if error is not None and not isinstance(error, Exception):
            return
        if error is not None:
            traceback.print_exception(error)
            self.fail(f"the part ended early: {one_line(error)}")
        results = {key: value for key, value in vars(self).items() if key != "output"}
        self.output.write_text(json.dumps(results, indent=1) + "\n")
        if self.failures:
            sys.exit(1)


def one_line(error: Exception) -> str:
    """What it says, without the stack that Java adds."""
    return " ".join(str(error).split())[:MOST_ERROR_CHARACTERS]


def machine() -> dict:
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cores": os.cpu_count(),
        "memory_gib": round(memory_bytes / 2**30),
        "system": f"{platform.system()} {platform.machine()}",
    }


def is_met(measure: dict) -> str:
    if measure["aim"] is None:
        return "-"
    if measure["ratio"] is None:
        # Without a peer there is nothing to say; without Sluice there is.
        return "no" if measure["sluice"] is None else "-"
    return "yes" if measure["ratio"] <= measure["aim"] else "no"


def row(measure: dict) -> list[str]:
    def value(name: str) -> str:
        number = measure[name]
        if number is None:
            return "failed" if name == "sluice" else "-"
        return f"{number:,.{3 if number < 10 else 1 if number < 1000 else 0}f} {measure['unit']}"

    return [
        measure["measure"],
        value("sluice"),
        f"{measure['peer']} {value('peer_value')}" if measure["peer"] else "-",
        f"{measure['ratio']:.2f}" if measure["ratio"] else "-",
        f"<= {measure['aim']}" if measure["aim"] else "-",
        is_met(measure),
    ]


def table(parts: dict) -> str:
    rows = [["measure", "Sluice", "peer", "ratio", "aim", "met?"]]
    rows += [row(measure) for part in parts.values() for measure in part["measures"]]
    widths = [max(len(line[column]) for line in rows) for column in range(len(rows[0]))]
    lines = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths)) + " |" for line in rows]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def markdown(runs: dict[str, dict]) -> str:
    """`runs` gives for each part the run that it is taken from."""
    parts = {name: run["parts"][name] for name, run in runs.items()}
    lines = [
        "# Sluice beside its peers",
        "",
        "Ratios are Sluice's value over the peer's, both from the same run; smaller is better.",
        "",
        table(parts),
        "",
    ]
    for name, run in runs.items():
        part = parts[name]
        facts = [f"{run['machine']['cores']} cores, {run['machine']['memory_gib']} GiB, {run['machine']['system']}"]
        facts += [f"{key} {version}" for key, version in {**run["versions"], **part["versions"]}.items()]
        facts += [f"{key} {value}" for key, value in part["settings"].items()]
        lines.append(f"- {name}, {run['date']}: {'; '.join(facts)}")
        lines += [f"  - {words}" for words in part["notes"]]
        lines += [f"  - FAILED: {words}" for words in part["failures"]]
    return "\n".join(lines) + "\n"


def report(part_files: list[Path], results: Path, versions: dict[str, str]) -> None:
    """Writes this run's parts as <date>.json, and the newest run of each part as latest.md."""
    parts = {part["name"]: part for part in (json.loads(file.read_text()) for file in part_files)}
    parts = {name: parts[name] for name in PARTS if name in parts}
    date = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H%M%SZ")
    run = {"date": date, "machine": machine(), "versions": versions, "parts": parts}
    results.mkdir(parents=True, exist_ok=True)
    (results / f"{date}.json").write_text(json.dumps(run, indent=1) + "\n")
    newest = {}
    for file in sorted(results.glob("*.json")):
        earlier = json.loads(file.read_text())
        newest.update({name: earlier for name in earlier["parts"]})
    (results / "latest.md").write_text(markdown({name: newest[name] for name in PARTS if name in newest}))
    print(f"\n{table(parts)}\n\nin {results / f'{date}.json'} and latest.md beside it")

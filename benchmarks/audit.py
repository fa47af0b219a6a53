"""`make audit`: are there known vulnerabilities in what is installed here? Fails unless all was looked up.

pip-audit ends with success when its data cannot be reached: it skips what it does not find. So its answer
counts only if it tells of every package, and finds the vulnerabilities of one that is known to have some.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

CANARY = ("django", "2.0")  # dozens of published vulnerabilities; none of our packages needs it
OWN = "mcm-ood"


def main(pip_audit: str) -> int:
    """Audit the environment that runs this with the given pip-audit. 0 = all looked up and nothing found."""
    problems = unreachable(audit(pip_audit, [CANARY]))
    packages = installed()
    if not problems:
        problems = failures(audit(pip_audit, packages), packages)
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    if not problems:
        print(f"looked {len(packages)} packages up: no known vulnerabilities")
    return 1 if problems else 0


def installed() -> list[tuple[str, str]]:
    """Names and versions of the packages here, our own apart; local parts of versions (+cpu) are cut."""
    command = [sys.executable, "-m", "pip", "list", "--format", "json", "--disable-pip-version-check"]
    listed = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    found = [(normal(p["name"]), p["version"].partition("+")[0]) for p in listed]
    return [(name, version) for name, version in found if name != OWN]


def audit(pip_audit: str, packages: Iterable[tuple[str, str]]) -> str:
    """pip-audit's JSON report on pinned packages; empty where it gives none."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "requirements.txt")
        file.write_text("".join(f"{name}=={version}\n" for name, version in packages))
        command = [pip_audit, "-r", str(file), "--no-deps", "--disable-pip", "--format", "json"]
        done = subprocess.run([*command, "--progress-spinner", "off"], capture_output=True, text=True)
    return done.stdout


def unreachable(canary_report: str) -> list[str]:
    """The line that says that the data cannot be reached; empty if the canary was found vulnerable."""
    if any(d.get("vulns") for d in dependencies(canary_report)):
        return []
    name, version = CANARY
    return [
        f"the vulnerability data cannot be reached: pip-audit finds nothing on {name} {version}, which has "
        "known vulnerabilities; nothing was audited"
    ]


def failures(report: str, packages: Iterable[tuple[str, str]]) -> list[str]:
    """Why the audit is no success, a line each; empty if everything was looked up and nothing was found."""
    found = dependencies(report)
    lines = [described(d) for d in found if d.get("vulns")]
    looked_up = {normal(d["name"]) for d in found if "vulns" in d and "skip_reason" not in d}
    missing = sorted({normal(name) for name, _ in packages} - looked_up)
    if missing:
        more = " ..." if len(missing) > 10 else ""
        lines.append(f"not looked up: {', '.join(missing[:10])}{more} ({len(missing)} in all)")
    return lines


def described(dependency: dict[str, Any]) -> str:
    """A vulnerable package in one line."""
    vulns = dependency["vulns"]
    fixes = dict.fromkeys(version for vuln in vulns for version in vuln.get("fix_versions", ()))
    fixed = f"fixed in {', '.join(fixes)}" if fixes else "no fix is known"
    return f"{dependency['name']} {dependency['version']} has {', '.join(v['id'] for v in vulns)}; {fixed}"


def dependencies(report: str) -> list[dict[str, Any]]:
    """What a report tells of each package; nothing for what is no report."""
    try:
        found = json.loads(report)["dependencies"]
    except (ValueError, KeyError, TypeError):
        return []
    return [d for d in found if isinstance(d, dict) and "name" in d]


def normal(name: str) -> str:
    """A package's name in its normal form."""
    return name.lower().replace("_", "-").replace(".", "-")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))

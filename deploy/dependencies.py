"""The lock files: `make lock` writes them, `make install` asks which of them this machine needs, `make audit` checks them.

- `requirements.lock` pins all that every machine needs, and suffices on macOS and Windows.
- `requirements-cuda.lock` adds NVIDIA's libraries, which the Linux build of torch on PyPI needs.
- `requirements-cpu.lock` narrows torch to its builds for the CPU (`+cpu`), which need none of them. PyPI does not have these builds. A file
  of its own is needed: among the builds that a pin allows, pip prefers one whose hash the index lists, so that a `+cpu` file in a
  folder of `--find-links` would lose to PyPI's build.

All carry the hashes of every file of a pin, so that they serve each Python and processor. This module runs before anything is installed:
it imports the standard library only.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
LOCK = ROOT / "requirements.lock"
CUDA_LOCK = ROOT / "requirements-cuda.lock"
CPU_LOCK = ROOT / "requirements-cpu.lock"
PIN = re.compile(r"^(?P<name>[a-z0-9][a-z0-9._-]*)==(?P<version>[^\s;]+)(?: ; (?P<marker>[^\\]+?))? \\$", re.MULTILINE)
PARENT = re.compile(r"^    # (?:via |  )(?P<name>[a-z][a-z0-9._-]*)", re.MULTILINE)
HASH = re.compile(r"--hash=(sha256:[0-9a-f]{64})")
CUDA_NAME = re.compile(r"^(nvidia|cuda)-|^triton$")
INTEL_MAC = "platform_machine == 'x86_64' and sys_platform == 'darwin'"
"""The marker of pins for Macs with Intel processors, for which torch has no build."""
HEADER = """\
# Written by `make lock`: do not edit. {purpose}
# The hashes are those of every file of each pin: for Python 3.11, 3.12 and 3.13 and for Linux on x86_64 and aarch64, among others.
#
#   pip install --require-hashes --requirement {name}
#
"""
PURPOSES = {
    LOCK: "On Linux, requirements-cuda.lock or requirements-cpu.lock is installed, which includes this file.",
    CUDA_LOCK: "For the Linux build of torch on PyPI, which needs NVIDIA's libraries.",
    CPU_LOCK: "For the builds of torch for the CPU, which PyPI does not have; they need none of NVIDIA's libraries.",
}


def pins(text: str) -> Iterator[tuple[str, str]]:
    """The name of each pin in a lock, and the text of the pin with its hashes and comments."""
    starts = [match.start() for match in PIN.finditer(text)]
    for start, end in zip(starts, [*starts[1:], len(text)], strict=True):
        yield text[start : text.index("==", start)], text[start:end]


def write_lock(uv: str, upgrade: bool) -> None:
    """Resolve the dependencies of `pyproject.toml` and write both locks; pins stay as they are unless `upgrade`."""
    with tempfile.TemporaryDirectory() as folder:
        resolved = Path(folder) / "resolved"
        if not upgrade:
            # Without the hashes: uv would keep them, and miss files that were added to a release since.
            present = "".join(path.read_text() for path in (LOCK, CUDA_LOCK) if path.exists())
            resolved.write_text("".join(pin.partition(" \\\n")[0] + "\n" for _, pin in pins(present)))
        command = [uv, "pip", "compile", "pyproject.toml", "--extra", "dev", "--universal", "--python-version", "3.11", "--quiet"]
        command += ["--generate-hashes", "--no-header", "--no-emit-index-url", "--no-emit-find-links", "--output-file", str(resolved)]
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        locked = [(name, pin) for name, pin in pins(resolved.read_text()) if f" ; {INTEL_MAC} " not in pin]
    cuda = {name for name, _ in locked if CUDA_NAME.search(name)}
    for name, pin in locked:
        others = set(PARENT.findall(pin)) - cuda - {"torch"}
        if name in cuda and others:
            sys.exit(f"{name} belongs to {CUDA_LOCK.name}, but {', '.join(sorted(others))} need it without CUDA too.")
    version = next(match["version"] for name, pin in locked if name == "torch" and (match := PIN.match(pin)))
    cpu = _cpu_builds(version)
    _write(LOCK, (_with_hashes(pin, cpu) if name == "torch" else pin for name, pin in locked if name not in cuda))
    _write(CUDA_LOCK, [f"--requirement {LOCK.name}\n", *(pin for name, pin in locked if name in cuda)])
    _write(CPU_LOCK, [f"--requirement {LOCK.name}\n", f"torch=={version}+cpu" + _hash_lines(cpu)])
    print(f"{LOCK.name}: {len(locked) - len(cuda)} pins; {CUDA_LOCK.name}: {len(cuda)} more; {CPU_LOCK.name}: {len(cpu)} builds of torch")


def _write(path: Path, parts: Iterable[str]) -> None:
    path.write_text(HEADER.format(purpose=PURPOSES[path], name=path.name) + "".join(parts))


def _cpu_builds(version: str) -> set[str]:
    """The hashes of the builds of torch for the CPU: those of the present lock, and of files that pip finds where it is configured to look."""
    present = dict(pins(CPU_LOCK.read_text())).get("torch", "") if CPU_LOCK.exists() else ""
    hashes = set(HASH.findall(present)) if present.startswith(f"torch=={version}+cpu ") else set()
    for python in ("3.11", "3.12", "3.13"):
        for machine in ("x86_64", "aarch64"):
            found = _cpu_build(version, python, machine)
            print(f"torch {version}+cpu for Python {python} on {machine}: {'found' if found else 'pip finds none here'}")
            hashes |= {found} if found else set()
    return hashes


def _cpu_build(version: str, python: str, machine: str) -> str | None:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:", "--dest", folder]
        command += ["--python-version", python, "--platform", f"manylinux_2_28_{machine}", f"torch=={version}+cpu"]
        subprocess.run(command, check=False, capture_output=True)
        return next((f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}" for path in Path(folder).glob("*.whl")), None)


def _with_hashes(pin: str, more: set[str]) -> str:
    """The pin with further hashes: without those of the `+cpu` builds, pip would refuse what `requirements-cpu.lock` asks for."""
    comments = "".join(line for line in pin.splitlines(keepends=True) if line.lstrip().startswith("#"))
    return pin.partition(" \\\n")[0] + _hash_lines(more | set(HASH.findall(pin))) + comments


def _hash_lines(hashes: set[str]) -> str:
    return "".join(f" \\\n    --hash={each}" for each in sorted(hashes)) + "\n"


def choose_lock() -> Path:
    """The lock that this machine needs: where pip finds a build of torch for the CPU, the one for it; otherwise what PyPI's build needs."""
    command = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--quiet", "--dry-run", "--ignore-installed"]
    with tempfile.TemporaryDirectory() as folder:
        torch = Path(folder) / "torch.txt"
        torch.write_text(dict(pins(CPU_LOCK.read_text()))["torch"])
        found = subprocess.run([*command, "--no-deps", "--require-hashes", "--requirement", str(torch)], check=False, capture_output=True)
    if found.returncode == 0:
        return CPU_LOCK
    return CUDA_LOCK if platform.system() == "Linux" else LOCK


def audit(pip_audit: str, service: str) -> int:
    """Look up the known vulnerabilities of every pin; returns 1 if there are any, 2 if pins could not be looked up.

    Args:
        pip_audit: the command.
        service: the database: `pypi` or `osv`.
    """
    with tempfile.TemporaryDirectory() as folder:
        everything = Path(folder) / "pins.txt"  # pip-audit does not read the file that a lock includes
        everything.write_text("".join(pin for path in (LOCK, CUDA_LOCK) for _, pin in pins(path.read_text())))
        command = [pip_audit, "--disable-pip", "--require-hashes", "--requirement", str(everything), "--vulnerability-service", service]
        done = subprocess.run([*command, "--format", "json", "--progress-spinner", "off"], check=False, capture_output=True, text=True)
    try:
        packages = json.loads(done.stdout)["dependencies"]
    except (json.JSONDecodeError, KeyError):
        lines = done.stderr.strip().splitlines() or ["pip-audit printed nothing"]
        print(f"Nothing was audited: the database {service!r} cannot be reached from here.\n{lines[-1]}")
        return 2
    unknown = [each for each in packages if "skip_reason" in each]
    affected = [each for each in packages if each.get("vulns")]
    for each in affected:
        for found in each["vulns"]:
            fixed = ", ".join(found["fix_versions"]) or "no version"
            print(f"{each['name']} {each['version']}: {found['id']} ({', '.join(found['aliases']) or 'no alias'}); fixed in {fixed}")
    print(f"{len(packages) - len(unknown)} of {len(packages)} pins looked up in {service!r}: {len(affected)} with known vulnerabilities")
    if unknown:
        names = ", ".join(each["name"] for each in unknown[:5])
        print(
            f"{len(unknown)} pins could not be looked up ({names}{', ...' if len(unknown) > 5 else ''}): a mirror of PyPI without its "
            f"JSON interface has no vulnerabilities. Run `make audit` where the database can be reached, or with SERVICE=osv."
        )
    return 1 if affected else 2 if unknown else 0


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m deploy.dependencies", description="The lock files.")
    commands = parser.add_subparsers(dest="command", required=True)
    lock = commands.add_parser("lock", help="resolve the dependencies and write the lock files")
    lock.add_argument("--uv", default="uv", help="the uv command")
    lock.add_argument("--upgrade", action="store_true", help="take the newest versions instead of those of the present lock")
    commands.add_parser("choose", help="print the lock that this machine needs")
    check = commands.add_parser("audit", help="look up known vulnerabilities of every pin")
    check.add_argument("--pip_audit", default="pip-audit", help="the pip-audit command")
    check.add_argument("--service", default="pypi", choices=("pypi", "osv"), help="the database of vulnerabilities")
    chosen = parser.parse_args(arguments)
    if chosen.command == "lock":
        write_lock(chosen.uv, chosen.upgrade)
    elif chosen.command == "choose":
        print(choose_lock().name)
    else:
        return audit(chosen.pip_audit, chosen.service)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Install the lowest versions that pyproject.toml allows, and run the tests with them."""

import subprocess
import sys
import tempfile
import tomllib
import venv
from collections.abc import Sequence
from pathlib import Path

from jaxnn.commands import cli

DESCRIPTION = """\
Make a fresh virtual environment that has the lowest version of every package that pyproject.toml
names for running and testing, and run the tests there. What these packages need in turn is the
newest that fits. The exit status is that of the first command that fails."""

ROOT = Path(__file__).parents[2]


def parser() -> cli.Parser:
    p = cli.Parser(DESCRIPTION)
    p.add_argument("pytest", nargs="*", help="what pytest is given, after -- (default: -n auto)")
    return p


def lowest(requirements: Sequence[str]) -> list[str]:
    """Each `name>=version` as `name==version`."""
    return [requirement.replace(">=", "==") for requirement in requirements]


def main(argv: Sequence[str] | None = None) -> int:
    given = parser().parse_args(argv).pytest or ["-n", "auto"]
    described = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    project = described["project"]
    pins = lowest(
        described["build-system"]["requires"]
        + project["dependencies"]
        + project["optional-dependencies"]["test"]
    )
    print(*pins, sep="\n", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        python = str(Path(folder, "Scripts" if sys.platform == "win32" else "bin", "python"))
        install = [python, "-m", "pip", "install", "--quiet"]
        commands = [
            [*install, *pins],
            [*install, "--no-build-isolation", "--editable", str(ROOT)],
            [python, "-m", "pip", "check"],
            [python, "-m", "pytest", *given],
        ]
        for command in commands:
            status = subprocess.run(command, cwd=ROOT, check=False).returncode
            if status:
                return status
    return 0


if __name__ == "__main__":
    cli.run(main)

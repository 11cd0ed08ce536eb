"""What the doctor says of real mistakes: python scripts/campaigns/real_mistakes.py FOLDER

FOLDER has Python modules with a list CASES each. A case has a name, a kind, what its author needed
to hear (`cause`, `place`), and `build()`. That returns (loss, wrong, right, params, args) or, where
`vjp` is true, (wrong, right, args, reference) of a jax.custom_vjp. "right" among its `tags` says
that the wrong version is none.

For each case it prints whether the wrong version is detected and the right one passes, how long
that took, and what the doctor said beside what was needed: a cause is judged by reading.
"""

import argparse
import importlib.util
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from jaxnn.errors import JaxnnError
from jaxnn.gradcheck import check_gradients, check_vjp


def modules(folder: Path) -> Iterator[ModuleType]:
    """The modules of a folder that have cases, in the order of their names."""
    sys.path.insert(0, str(folder))
    for path in sorted(folder.glob("*.py")):
        spec = importlib.util.spec_from_file_location(path.stem, path)
        if spec is None or spec.loader is None:
            continue
        module = sys.modules.get(path.stem) or importlib.util.module_from_spec(spec)
        if path.stem not in sys.modules:
            sys.modules[path.stem] = module
            spec.loader.exec_module(module)
        if hasattr(module, "CASES"):
            yield module


def examined(case: Any) -> tuple[Any, Any]:
    """The reports of the wrong version and of the right one."""
    if case.vjp:
        wrong, right, args, reference = case.build()
        return tuple(check_vjp(f, *args, reference=reference) for f in (wrong, right))
    loss, wrong, right, params, args = case.build()
    return tuple(check_gradients(loss, f, params, *args) for f in (wrong, right))


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("only", nargs="*", help="parts of the names of the cases to take")
    return parser


def main(arguments: list[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    if not options.folder.is_dir():
        print(f"expected a folder, found {options.folder}", file=sys.stderr)
        return 2
    cases = [
        case
        for module in modules(options.folder)
        for case in module.CASES
        if not options.only or any(part in case.name for part in options.only)
    ]
    detected = alarms = named = wrongs = 0
    for case in cases:
        start = time.monotonic()
        try:
            wrong, right = examined(case)
        except (JaxnnError, TypeError, ValueError) as error:
            print(f"{case.name} ({case.kind}): {str(error).splitlines()[0]}\n", flush=True)
            continue
        is_wrong = "right" not in case.tags
        wrongs += is_wrong
        detected += is_wrong and not wrong.ok
        alarms += (not right.ok) + (not is_wrong and not wrong.ok)
        named += is_wrong and not wrong.ok and "unknown" not in (wrong.cause or "")
        print(f"{case.name} ({case.kind}), {time.monotonic() - start:.1f} s")
        print(f"  needed  {case.cause} [{case.place}]")
        print(f"  said    {wrong.cause or 'right'}: {wrong.explanation}\n", flush=True)
    print(f"detected {detected}/{wrongs}, named {named}/{wrongs}, false alarms {alarms}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

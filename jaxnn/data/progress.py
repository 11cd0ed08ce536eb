"""The progress of a download, for whoever wants to show it."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

#: Called with a file's name, the bytes that have arrived, and the bytes that will.
Report = Callable[[str, int, int], None]

#: Entered when a download begins and left when it ends: nothing is drawn if there is none.
Progress = Callable[[], AbstractContextManager[Report]]


@contextmanager
def silent() -> Iterator[Report]:
    """Shows nothing."""
    yield lambda name, done, total: None


@contextmanager
def bars() -> Iterator[Report]:
    """One bar per file on standard error, if that is a terminal."""
    from rich.console import Console
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

    console = Console(stderr=True, markup=False, emoji=False)
    tasks: dict[str, TaskID] = {}
    with Bars(console=console, disable=not console.is_terminal) as shown:

        def report(name: str, done: int, total: int) -> None:
            if name not in tasks:
                tasks[name] = shown.add_task(name, total=total)
            shown.update(tasks[name], completed=done)

        yield report

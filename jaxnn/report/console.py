"""What a person sees while a network trains: a few lines, a progress bar, the table."""

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh
from rich import box, progress
from rich.console import Console
from rich.table import Table

from jaxnn.data import Dataset
from jaxnn.gradcheck import GradientReport
from jaxnn.io import command, output
from jaxnn.runs.metrics import AVERAGES, COLUMNS, Report
from jaxnn.runs.run_folder import Run
from jaxnn.training import data_parallel
from jaxnn.training.config import Config
from jaxnn.training.layers import Layer, layers_of
from jaxnn.training.loop import Record, Snapshot

#: More layers than this are not listed one by one.
LAYERS_SHOWN = 5


def rich_console(**options: Any) -> Console:
    """Standard output: styled on a terminal, plain text elsewhere.

    Names are printed as they are: `[b]` and `:smile:` in a path mean nothing.
    """
    options = {"soft_wrap": True, **options}
    return Console(highlight=False, markup=False, emoji=False, **options)


def notice(line: str) -> None:
    """One prominent line on standard error."""
    rich_console(stderr=True).print(line, style="bold yellow")


def advise(line: str) -> None:
    """A notice that names settings, which are shown as flags."""
    notice(command.with_flags(line))


def summary(dataset: Dataset, config: Config, mesh: Mesh, done: int = 0) -> None:
    """The data, the network, the devices and what is done, before anything is computed."""
    sizes = "-".join(map(str, (dataset.n_x, *config.n_h, dataset.n_classes)))
    hidden = f"{config.activation} and " if config.n_h else ""
    resumed = f"\nresumed   after epoch {done} of {config.epochs}" if done else ""
    rich_console().print(
        f"data      {dataset.name}: {dataset.n_train:,} training and {dataset.n_test:,} test "
        f"examples, from {dataset.origin}\n"
        f"network   {sizes}, {hidden}softmax; lr {config.lr:g}, "
        f"beta {config.beta:g}, batches of {config.batch_size}, seed {config.seed}\n"
        f"layers    {_layers(layers_of(config, dataset.n_x, dataset.n_classes))}\n"
        f"{_beyond(config)}"
        f"device    {_devices(mesh)}, jax {jax.__version__}{resumed}"
    )
    devices, cores = len(mesh.local_devices), data_parallel.cores()
    if jax.default_backend() == "cpu" and devices > cores:
        advise(f"`devices` {devices}: more than this machine's {cores} cores, slow")


def _layers(layers: Sequence[Layer]) -> str:
    """How many parameters each layer has, and all of them; of many layers, all of them alone."""
    total = f"{sum(layer.parameters for layer in layers):,} parameters"
    if not 1 < len(layers) <= LAYERS_SHOWN:
        return total
    each = ", ".join(f"W{n} and b{n} {layer.parameters:,}" for n, layer in enumerate(layers, 1))
    return f"{each}: {total}"


def _devices(mesh: Mesh) -> str:
    device = mesh.devices.flat[0]
    count = f"{mesh.size} × " if mesh.size > 1 else ""
    processes = f" of {jax.process_count()} processes" if jax.process_count() > 1 else ""
    return f"{count}{device.platform} ({device.device_kind}){processes}"


def _beyond(config: Config) -> str:
    """A line with what the run has beyond the document, by its flags; nothing if it has nothing."""
    beyond = ", ".join(f"{name} {value}" for name, value in config.beyond().items())
    return beyond and f"beyond    {beyond}\n"


def verdict(check: GradientReport) -> None:
    """One line: the gradients hold, and how closely."""
    rich_console().print(
        f"verified  every hand-written gradient agrees with jax.grad: largest relative error "
        f"{check.max_relative_error:.1e}"
    )


def epochs(steps: Iterable[Snapshot], total: int, done: int) -> Iterator[Snapshot]:
    """Pass the epochs through: a line for each, and on a terminal a bar with the time left."""
    out = rich_console()
    bar = progress.Progress(
        progress.TextColumn("epoch"),
        progress.MofNCompleteColumn(),
        progress.BarColumn(bar_width=None),
        progress.TextColumn("time left"),
        progress.TimeRemainingColumn(),
        console=out,
        transient=True,
        disable=not out.is_terminal,
    )
    with bar:
        task = bar.add_task("training", total=total, completed=done)
        for step in steps:
            out.print(_line(step.history[-1], total))
            bar.update(task, completed=len(step.history))
            yield step


def _line(record: Record, total: int) -> str:
    parts = [part for part in ("train", "validation", "test") if f"{part}_loss" in record]
    losses = ", ".join(f"{part} {record[f'{part}_loss']:.4f}" for part in parts)
    accuracies = ", ".join(f"{part} {record[f'{part}_accuracy']:.2%}" for part in parts)
    return (
        f"epoch {record['epoch']:>{len(str(total))}}/{total}   loss: {losses}   "
        f"accuracy: {accuracies}   {record['seconds']:.2f} s"
    )


def how_to_resume(run: Run, progress: Snapshot, saved: str = "everything is saved") -> None:
    """After an interruption: what is saved, and the command that goes on.

    On standard error where standard output has no reader any more.
    """
    gone = output.reader_has_gone()
    rich_console(stderr=gone or output.muted() is not None).print(
        f"{'nobody reads the output any more: ' if gone else ''}"
        f"interrupted after epoch {len(progress.history)} of {run.config.epochs}; {saved}. To go "
        f"on:\n  {command.resuming(run.folder)}"
    )


def ended(run: Run, progress: Snapshot, error: BaseException) -> None:
    """After an error that nobody expected: what is saved, and the command that goes on."""
    notice(
        f"{type(error).__name__} after epoch {len(progress.history)} of {run.config.epochs}; all "
        f"epochs before are saved. To go on: {command.resuming(run.folder)}"
    )


def table(report: Report, accuracy: float) -> str:
    """The document's table as text: precision, recall, F1 and support, per class and averaged."""
    grid = Table(box=box.SIMPLE_HEAD)
    for column in ("class", *COLUMNS):
        grid.add_column(column, justify="right")
    for row, values in report.items():
        if row == AVERAGES[0]:
            grid.add_section()
            grid.add_row("accuracy", "", "", f"{accuracy:.4f}", f"{values['support']:.0f}")
        grid.add_row(row, *_cells(values))
    text = io.StringIO()
    rich_console(file=text, width=80, soft_wrap=False).print(grid)
    lines = [line.rstrip() for line in text.getvalue().splitlines()]
    return "\n".join(lines).strip("\n") + "\n"


def _cells(values: Mapping[str, float]) -> Sequence[str]:
    *ratios, support = (values[column] for column in COLUMNS)
    return [*(f"{ratio:.4f}" for ratio in ratios), f"{support:.0f}"]


def outcome(table: str, result: Mapping[str, Any]) -> None:
    """The table, what each member of a committee says alone, and the summary in one line."""
    members = ", ".join(f"{accuracy:.2%}" for accuracy in result["member_accuracies"])
    alone = f"members alone: {members}\n" if members else ""
    rich_console().print(
        f"\n{table}\n"
        f"{alone}test accuracy {result['test_accuracy']:.2%} {_of_epoch(result)}; "
        f"{result['train_seconds']:.1f} s of training, {result['total_seconds']:.1f} s in all"
        f"{' since it was resumed' if result['resumed_after'] else ''}"
    )


def _of_epoch(result: Mapping[str, Any]) -> str:
    """Which epoch the parameters are of, where validation did not choose the last."""
    chosen, epochs = result["chosen_epoch"], result["epochs"]
    if chosen == epochs:
        return f"after {epochs} epochs"
    return f"of epoch {chosen}, chosen by validation among {epochs}"


def where(folder: Path) -> None:
    """Where everything lies: all that a quiet command says."""
    if quiet := output.muted():
        quiet.result(str(folder))
    rich_console().print(f"results in {folder}")

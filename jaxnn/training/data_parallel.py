"""Several devices for one network: the examples of a batch are shared out, the parameters are not.

With the rows of X and Y on D devices, each Z, A, dZ and dA is computed where its rows are. Only

    dW_l = 1/m dZ_lᵀ A_{l−1}    and    db_l = 1/m Σ_i dZ_l,i

sum over examples. XLA's partitioner finds that in the equations as they stand: each device forms
its part of the sums, and one all-reduce adds the parts, so that every device makes the same step.
The equations know nothing of it. m is the whole batch, whether D divides it or not.
"""

import os
import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxnn.errors import PeerLostError, SettingError

T = TypeVar("T")

#: How the runtime's messages begin, or what they name, where a process cannot reach another one.
LOST = re.compile(
    "(UNKNOWN|INTERNAL|UNAVAILABLE|ABORTED|CANCELLED|DEADLINE_EXCEEDED|FAILED_PRECONDITION): "
    "|.*Gloo"
)

#: The mesh's only axis.
EXAMPLES = "examples"

HOST_DEVICES = "xla_force_host_platform_device_count"


def request_devices(devices: int | None) -> None:
    """Have so many devices made of a CPU's cores, which must be before jax first computes."""
    if devices is not None and HOST_DEVICES not in os.environ.get("XLA_FLAGS", ""):
        with suppress(RuntimeError):  # jax has computed already: there are as many as there are
            config: Any = jax.config
            config.update("jax_num_cpu_devices", max(devices, config.jax_num_cpu_devices))


def cores() -> int:
    """How many cores of this machine's CPU the process may use."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return usable or 1


def mesh(devices: int | None = None) -> Mesh:
    """So many devices of every process, or all that there are. Raises `SettingError` if too few."""
    request_devices(devices)
    found = len(jax.local_devices())
    if devices is not None and devices > found:
        raise SettingError(
            f"`devices` {devices}: expected 1 to {found}, the number of "
            f"{jax.default_backend().upper()} devices that jax finds here"
        )
    chosen = [device for device in jax.devices() if _place(device) < (devices or found)]
    return jax.make_mesh((len(chosen),), (EXAMPLES,), (AxisType.Auto,), devices=chosen)


def _place(device: jax.Device) -> int:
    """A device's place among those of its process."""
    return int(jax.local_devices(process_index=device.process_index).index(device))


def replicated(mesh: Mesh) -> NamedSharding:
    """A copy on each device."""
    return NamedSharding(mesh, PartitionSpec())


def sharded(mesh: Mesh, axis: int = 0) -> NamedSharding:
    """The examples, which lie along `axis`, in equal parts, one on each device."""
    return NamedSharding(mesh, PartitionSpec(*[None] * axis, EXAMPLES))


def shard(mesh: Mesh, tree: Any) -> Any:
    """Inside a program: lay the examples, axis 0 of each leaf, on the devices.

    Any number of them: XLA pads the last devices' parts, and leaves the padding out of every sum.
    """
    return jax.lax.with_sharding_constraint(tree, sharded(mesh))


def naming_lost_peers(function: Callable[..., T]) -> Callable[..., T]:
    """Where several processes compute together, the runtime's error is the loss of one of them."""

    def call(*args: Any, **options: Any) -> T:
        try:
            return function(*args, **options)
        except (jax.errors.JaxRuntimeError, ValueError) as error:
            if jax.process_count() == 1 or not LOST.match(str(error)):
                raise
            reason = str(error).partition(" [")[0].partition("\n")[0].rstrip(":")
            raise PeerLostError(f"another process of this run is lost ({reason:.120})") from error

    return call

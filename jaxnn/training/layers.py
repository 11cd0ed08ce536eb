"""The layers of a network, and how many numbers each of them learns."""

from typing import NamedTuple

from jaxnn.training.config import Config


class Layer(NamedTuple):
    """A_l = g(A_{l−1} W_lᵀ + b_l), with W_l (n_out, n_in) and b_l (n_out,)."""

    n_in: int
    n_out: int
    activation: str

    @property
    def parameters(self) -> int:
        """The numbers in W_l and b_l."""
        return self.n_out * self.n_in + self.n_out


def layers_of(config: Config, n_x: int, n_classes: int) -> list[Layer]:
    """The hidden layers and softmax, of one network where a configuration trains several."""
    widths = (n_x, *config.n_h, n_classes)
    activations = [*[config.activation] * len(config.n_h), "softmax"]
    return [Layer(*layer) for layer in zip(widths, widths[1:], activations, strict=False)]


def table(layers: list[Layer]) -> str:
    """A row for each layer, and the sum, as aligned text."""
    rows = [("layer", "inputs", "units", "activation", "parameters")]
    for number, layer in enumerate(layers, 1):
        n_in, n_out, activation = layer
        rows.append((str(number), str(n_in), str(n_out), activation, f"{layer.parameters:,}"))
    rows.append(("all", "", "", "", f"{sum(layer.parameters for layer in layers):,}"))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "   ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        for row in rows
    )

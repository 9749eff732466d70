"""The multilayer perceptron: linear layers of equal width."""

from bnstudy.errors import ConfigError
from bnstudy.networks.layers import Layer


def mlp(
    shape: tuple[int, int, int], classes: int, *, depth: int = 3, width: int = 100
) -> tuple[Layer, ...]:
    """Return the layers of a multilayer perceptron.

    The defaults are the network of Ioffe & Szegedy (2015), section 4.1, on MNIST.

    Parameters
    ----------
    shape
        Channels, height and width of an image.
    classes
        Number of classes.
    depth
        Number of hidden layers.
    width
        Units of each hidden layer.
    """
    if not isinstance(depth, int) or not 0 <= depth <= 1_000:
        raise ConfigError(f"depth of mlp must be an integer in 0..1000, got {depth!r}")
    hidden = tuple(Layer(f"fc{index}", "linear", width) for index in range(1, depth + 1))
    return (*hidden, Layer(f"fc{depth + 1}", "linear", classes))

"""LeNet, the network of the notes: two convolutions and three linear layers.

LeCun, Bottou, Bengio & Haffner 1998 with the notes' simplifications: average pooling
without weights, the same activation everywhere, and logits instead of Gaussian connections.
"""

from bnstudy.config import check_choice
from bnstudy.networks.layers import Layer


def lenet(
    shape: tuple[int, int, int], classes: int, *, padding: int = 0, pooling: str = "average"
) -> tuple[Layer, ...]:
    """Return the layers of LeNet.

    Parameters
    ----------
    shape
        Channels, height and width of an image.
    classes
        Number of classes.
    padding
        Of the first convolution: 0 in the notes; 2 in many published notebooks.
    pooling
        ``average`` or ``max``.
    """
    check_choice("pooling of lenet", pooling, ("average", "max"))
    return (
        Layer("conv1", "conv", 6, kernel=5, padding=padding, pooling=pooling),
        Layer("conv2", "conv", 16, kernel=5, pooling=pooling),
        Layer("fc1", "linear", 120),
        Layer("fc2", "linear", 84),
        Layer("fc3", "linear", classes),
    )

"""A residual network of 3 x 3 convolutions, and the same without shortcuts."""

from bnstudy.errors import ConfigError
from bnstudy.networks.layers import Layer


def resnet(
    shape: tuple[int, int, int],
    classes: int,
    *,
    depth: int = 8,
    width: int = 16,
    shortcuts: int = 1,
) -> tuple[Layer, ...]:
    """Return the layers of the network of He et al. (2016), section 4.2.

    A convolution, then three stages of blocks of two convolutions; the second and third
    stage have twice the channels on half the pixels. Shortcuts have no weights
    (option A). Then the average of each channel, and a linear layer.

    Parameters
    ----------
    shape
        Channels, height and width of an image.
    classes
        Number of classes.
    depth
        Layers with weights: 6 n + 2, such as 8, 14, 20, 32, 44, 56, for n blocks per stage.
    width
        Channels of the first stage; 16 in the paper.
    shortcuts
        1, or 0 for the plain network.
    """
    if not isinstance(depth, int) or depth < 8 or (depth - 2) % 6:
        raise ConfigError(f"depth of resnet must be 6 n + 2, such as 8, 14 or 20, got {depth!r}")
    if shortcuts not in (0, 1):
        raise ConfigError(f"shortcuts of resnet must be 0 or 1, got {shortcuts!r}")
    layers = [Layer("conv1", "conv", width, kernel=3, padding=1)]
    for stage in range(3):
        for block in range((depth - 2) // 6):
            stride = 2 if stage and not block else 1
            before = layers[-1].name
            for second in (False, True):
                last = stage == 2 and block == (depth - 2) // 6 - 1 and second
                layers.append(
                    Layer(
                        f"conv{len(layers) + 1}",
                        "conv",
                        width * 2**stage,
                        kernel=3,
                        stride=1 if second else stride,
                        padding=1,
                        pooling="global" if last else "",
                        add=before if second and shortcuts else "",
                    )
                )
    return (*layers, Layer("fc1", "linear", classes))

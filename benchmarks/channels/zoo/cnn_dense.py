"""Networks that give pixels: U-Net, DeepLab, super-resolution, a DCGAN. Narrow, on 16 x 16 to 64 x 64 pixels."""

import onnx

from benchmarks.channels.zoo.layers import RELU, batch_norm, conv, conv_norm, conv_transpose, gemm
from benchmarks.channels.zoo.maker import BATCH, Maker
from benchmarks.channels.zoo.norms import settled

_BRANCH = 0.5  # gain of the last layer of a residual branch, so that sums do not grow


# ---- U-Net (arXiv 1505.04597)

_UNET_WIDTHS = (16, 32, 64, 128)


def unet() -> onnx.ModelProto:
    """A quarter as wide, three levels: ConvTranspose up, the skipped features and those from below concatenated."""
    return _unet("unet", resize=False)


def unet_resize() -> onnx.ModelProto:
    """The same with Resize to a size that the graph computes from both features, whose channels are in it too."""
    return _unet("unet_resize", resize=True)


def _unet(name: str, *, resize: bool) -> onnx.ModelProto:
    m = Maker(name, constant_nodes=resize)
    x, width = m.input("input", BATCH, 3, 32, 32), 3
    skipped: list[str] = []
    for level, outputs in enumerate(_UNET_WIDTHS):
        if level:
            skipped.append(x)
            x = m.op("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
        with m.scope("down", level):
            x = _double_conv(m, x, width, outputs)
        width = outputs
    for level, outputs in reversed(list(enumerate(_UNET_WIDTHS[:-1]))):
        with m.scope("up", level):
            skip = skipped.pop()
            if resize:
                x, wide = _resized_like(m, x, skip), outputs + width
            else:
                x, wide = conv_transpose(m, x, width, outputs, 2, stride=2), 2 * outputs
            x = _double_conv(m, m.op("Concat", skip, x, axis=1), wide, outputs)
        width = outputs
    with m.scope("outc"):
        m.output(conv(m, x, width, 4), "masks", BATCH, 4, 32, 32)
    return settled(m.model())


def _double_conv(m: Maker, x: str, width: int, outputs: int) -> str:
    for index, inputs in enumerate((width, outputs)):
        with m.scope(index):
            x = conv_norm(m, x, inputs, outputs, 3)
    return x


def _resized_like(m: Maker, x: str, skip: str) -> str:
    """F.interpolate(x, size=skip.shape[2:]): the first two sizes of x, the last two of skip."""
    own = m.slice(m.op("Shape", x), 0, 0, 2)
    sizes = m.op("Concat", own, m.slice(m.op("Shape", skip), 0, 2, 4), axis=0)
    return m.op("Resize", x, "", "", sizes, coordinate_transformation_mode="half_pixel", mode="linear")


# ---- DeepLabV3 (arXiv 1706.05587)


def deeplab() -> onnx.ModelProto:
    """A small trunk, then five branches that are concatenated: 1x1, three dilated 3x3, and the mean of the image,
    which Resize spreads over it again; masks by a last Resize to the size of the input."""
    m = Maker("deeplab", constant_nodes=True)
    image = m.input("input", BATCH, 3, 64, 64)
    x, width = image, 3
    for index, outputs in enumerate((16, 32, 64)):
        with m.scope("trunk", index):
            x = conv_norm(m, x, width, outputs, 3, stride=2)
        width = outputs
    branches: list[str] = []
    with m.scope("aspp", 0):
        branches.append(conv_norm(m, x, width, 32))
    for index, dilation in enumerate((2, 4, 6), start=1):
        with m.scope("aspp", index):
            y = conv(m, x, width, 32, 3, dilation=dilation, bias=False)
            branches.append(m.op("Relu", batch_norm(m, y, 32)))
    with m.scope("aspp", "pooling"):
        pooled = conv_norm(m, m.op("GlobalAveragePool", x), width, 32)
        branches.append(_resized_like(m, pooled, x))
    with m.scope("project"):
        x = conv_norm(m, m.op("Concat", *branches, axis=1), 5 * 32, 32)
    with m.scope("last"):
        m.output(_resized_like(m, conv(m, x, 32, 5), image), "masks", BATCH, 5, 64, 64)
    return settled(m.model())


# ---- DCGAN (arXiv 1511.06434)


def dcgan() -> onnx.ModelProto:
    """The generator: a Gemm whose rows are unflattened to 96 x 4 x 4, overlapping ConvTranspose layers with
    normalisation, LeakyRelu, Tanh."""
    m = Maker("dcgan")
    with m.scope("project"):
        x = gemm(m, m.input("noise", BATCH, 64), 64, 96 * 16)
    x, width = m.reshape(x, -1, 96, 4, 4), 96
    x = m.op("LeakyRelu", batch_norm(m, x, width), alpha=0.2)
    for index, outputs in enumerate((48, 24)):
        with m.scope("up", index):
            x = conv_transpose(m, x, width, outputs, 4, stride=2, pad=1, bias=False)
            x = m.op("LeakyRelu", batch_norm(m, x, outputs), alpha=0.2)
        width = outputs
    with m.scope("last"):
        m.output(m.op("Tanh", conv_transpose(m, x, width, 3, 4, stride=2, pad=1)), "image", BATCH, 3, 32, 32)
    return settled(m.model())


# ---- super-resolution

_FACTOR = 3


def super_resolution() -> onnx.ModelProto:
    """ESPCN (arXiv 1609.05158), as wide as torch's example: four Conv, then DepthToSpace as PixelShuffle orders it."""
    m = Maker("super_resolution")
    x = m.input("input", BATCH, 1, 16, 16)
    for index, (inputs, outputs, kernel) in enumerate(((1, 64, 5), (64, 64, 3), (64, 32, 3))):
        with m.scope(f"conv{index + 1}"):
            x = m.op("Relu", conv(m, x, inputs, outputs, kernel))
    with m.scope("conv4"):
        x = conv(m, x, 32, _FACTOR**2, 3)
    m.output(m.op("DepthToSpace", x, blocksize=_FACTOR, mode="CRD"), "output", BATCH, 1, 48, 48)
    return m.model()


def super_resolution_reshape() -> onnx.ModelProto:
    """EDSR (arXiv 1707.02921) of 32 channels and 4 blocks: residual sums without normalisation, a pixel shuffle by
    Reshape and Transpose of 64 channels that stay, and a Conv behind it."""
    m = Maker("super_resolution_reshape", constant_nodes=True)
    width, factor = 32, 2
    with m.scope("head"):
        first = x = conv(m, m.input("input", BATCH, 3, 16, 16), 3, width, 3, gain=1)
    for index in range(4):
        with m.scope("body", index):
            y = m.op("Relu", conv(m, x, width, width, 3))
            x = m.op("Add", conv(m, y, width, width, 3, gain=_BRANCH), x)
    with m.scope("body", "last"):
        x = m.op("Add", conv(m, x, width, width, 3, gain=1), first)
    with m.scope("upsample"):
        x = conv(m, x, width, width * factor**2, 3, gain=1)
        x = _pixel_shuffle(m, x, width, factor)
    with m.scope("tail"):
        m.output(conv(m, x, width, 3, 3, gain=RELU), "output", BATCH, 3, 32, 32)
    return m.model()


def _pixel_shuffle(m: Maker, x: str, channels: int, factor: int) -> str:
    """(n, channels factor factor, h, w) to (n, channels, h factor, w factor)."""
    batch, height, width = (m.size(x, axis) for axis in (0, 2, 3))
    y = m.reshape(x, batch, channels, factor, factor, height, width)
    y = m.op("Transpose", y, perm=[0, 1, 4, 2, 5, 3])
    return m.reshape(y, batch, channels, *(m.op("Mul", size, m.index(factor)) for size in (height, width)))

"""The authors' networks in plain numpy, TensorFlow 1 layouts: written apart from the package, to check it against.

Arrays are N, H, W, C; weights are the dict of a published file: HWIO convolutions, [in, out] matrices,
the paper's keypoint order. It shares no layer table and no operation with hand_pose_3d.
"""

import numpy as np

CONV_HANDSEG = (
    "1_1 3 3 64|1_2 3 64 64|2_1 3 64 128|2_2 3 128 128|3_1 3 128 256|3_2 3 256 256|3_3 3 256 256|3_4 3 256 256|"
    "4_1 3 256 512|4_2 3 512 512|4_3 3 512 512|4_4 3 512 512|5_1 3 512 512|5_2 3 512 128|6_1 1 128 512|6_2 1 512 2"
)
CONV_POSE = (
    "1_1 3 3 64|1_2 3 64 64|2_1 3 64 128|2_2 3 128 128|3_1 3 128 256|3_2 3 256 256|3_3 3 256 256|3_4 3 256 256|"
    "4_1 3 256 512|4_2 3 512 512|4_3 3 512 256|4_4 3 256 256|4_5 3 256 256|4_6 3 256 256|4_7 3 256 128|"
    "5_1 1 128 512|5_2 1 512 21|"
    "6_1 7 149 128|6_2 7 128 128|6_3 7 128 128|6_4 7 128 128|6_5 7 128 128|6_6 1 128 128|6_7 1 128 21|"
    "7_1 7 149 128|7_2 7 128 128|7_3 7 128 128|7_4 7 128 128|7_5 7 128 128|7_6 1 128 128|7_7 1 128 21"
)
CONV_PRIOR = "0_1 3 21 32|0_2 3 32 32|1_1 3 32 64|1_2 3 64 64|2_1 3 64 128|2_2 3 128 128"
CONV_VIEW = "0_1 3 21 64|0_2 3 64 64|1_1 3 64 128|1_2 3 128 128|2_1 3 128 256|2_2 3 256 256"
FC_PRIOR = "rel0 2050 512|rel1 512 512|xyz 512 63"
FC_BOTTLENECK = "rel0 2050 512|rel1 512 512|bottleneck 512 30|xyz 30 63"
FC_VIEW = "vp0 4098 256|vp1 256 128|vp_ux 128 1|vp_uy 128 1|vp_uz 128 1"


def random_weights(rng, scope, convolutions, prefix="conv", fully_connected=""):
    """Arrays of a network as a published file holds them, with values that keep activations near one."""
    arrays = {}

    def put(layer, shape, fan_in):
        arrays[f"{scope}/{layer}/weights"] = (rng.normal(size=shape) * np.sqrt(2 / fan_in)).astype(np.float32)
        arrays[f"{scope}/{layer}/biases"] = rng.normal(0, 0.1, shape[-1]).astype(np.float32)

    for row in convolutions.split("|"):
        name, k, i, o = row.split()
        k, i, o = int(k), int(i), int(o)
        put(prefix + name if prefix == "conv" else f"{prefix}_{name}", (k, k, i, o), k * k * i)
    for row in fully_connected.split("|") if fully_connected else ():
        name, i, o = row.split()
        put(f"fc_{name}", (int(i), int(o)), int(i))
    return arrays


def handseg_weights(rng):
    return random_weights(rng, "HandSegNet", CONV_HANDSEG)


def posenet_weights(rng):
    return random_weights(rng, "PoseNet2D", CONV_POSE)


def prior_weights(rng, fully_connected=FC_PRIOR):
    return random_weights(rng, "PosePrior", CONV_PRIOR, "conv_pose", fully_connected)


def view_weights(rng):
    return random_weights(rng, "ViewpointNet", CONV_VIEW, "conv_vp", FC_VIEW)


def leaky(x):
    return np.maximum(x, 0.01 * x)


def conv(x, w, b, stride=1):
    """TensorFlow SAME convolution, one kernel tap at a time."""
    k = w.shape[0]
    n, h, width, _ = x.shape
    out_h, out_w = -(-h // stride), -(-width // stride)
    pad_h = max((out_h - 1) * stride + k - h, 0)
    pad_w = max((out_w - 1) * stride + k - width, 0)
    x = np.pad(x, ((0, 0), (pad_h // 2, pad_h - pad_h // 2), (pad_w // 2, pad_w - pad_w // 2), (0, 0)))
    out = np.zeros((n, out_h, out_w, w.shape[3]), x.dtype)
    for dy in range(k):
        for dx in range(k):
            out += (
                x[:, dy : dy + stride * out_h : stride, dx : dx + stride * out_w : stride][:, :out_h, :out_w]
                @ w[dy, dx]
            )
    return out + b


def pool(x):
    n, h, w, c = x.shape
    return x[:, : h // 2 * 2, : w // 2 * 2].reshape(n, h // 2, 2, w // 2, 2, c).max((2, 4))


def resize(x, height, width):
    """tf.image.resize_images: every output pixel by itself, without half-pixel centres."""
    _, h, w, _ = x.shape
    out = np.zeros((x.shape[0], height, width, x.shape[3]), x.dtype)
    for i in range(height):
        y = i * h / height
        top = int(y)
        bottom = min(top + 1, h - 1)
        for j in range(width):
            z = j * w / width
            left = int(z)
            right = min(left + 1, w - 1)
            a, b = y - top, z - left
            out[:, i, j] = (1 - a) * ((1 - b) * x[:, top, left] + b * x[:, top, right]) + a * (
                (1 - b) * x[:, bottom, left] + b * x[:, bottom, right]
            )
    return out


def handseg(p, x):
    def layer(x, name, act=True):
        y = conv(x, p[f"HandSegNet/conv{name}/weights"], p[f"HandSegNet/conv{name}/biases"])
        return leaky(y) if act else y

    _, h, w, _ = x.shape
    for block, count in ((1, 2), (2, 2), (3, 4), (4, 4)):
        for i in range(1, count + 1):
            x = layer(x, f"{block}_{i}")
        if block < 4:
            x = pool(x)
    for name in ("5_1", "5_2", "6_1"):
        x = layer(x, name)
    return resize(layer(x, "6_2", act=False), h, w)


def posenet(p, x):
    def layer(x, name, act=True):
        y = conv(x, p[f"PoseNet2D/conv{name}/weights"], p[f"PoseNet2D/conv{name}/biases"])
        return leaky(y) if act else y

    for block, count in ((1, 2), (2, 2), (3, 4), (4, 7)):
        for i in range(1, count + 1):
            x = layer(x, f"{block}_{i}")
        if block < 4:
            x = pool(x)
    encoding = x
    maps = [layer(layer(x, "5_1"), "5_2", act=False)]
    for stage in ("6", "7"):
        x = np.concatenate([maps[-1], encoding], -1)
        for i in range(1, 7):
            x = layer(x, f"{stage}_{i}")
        maps.append(layer(x, f"{stage}_7", act=False))
    return maps


def _encode(p, scope, prefix, x, side):
    for block in range(3):
        for step in (1, 2):
            name = f"{scope}/{prefix}_{block}_{step}"
            x = leaky(conv(x, p[f"{name}/weights"], p[f"{name}/biases"], stride=step))
    return np.concatenate([x.reshape(len(x), -1), side], 1)


def _fc(p, scope, name, x):
    return x @ p[f"{scope}/fc_{name}/weights"] + p[f"{scope}/fc_{name}/biases"]


def prior(p, x, side):
    x = _encode(p, "PosePrior", "conv_pose", x, side)
    x = leaky(_fc(p, "PosePrior", "rel1", leaky(_fc(p, "PosePrior", "rel0", x))))
    if "PosePrior/fc_bottleneck/weights" in p:
        x = _fc(p, "PosePrior", "bottleneck", x)
    return _fc(p, "PosePrior", "xyz", x).reshape(-1, 21, 3)


def viewpoint(p, x, side):
    x = _encode(p, "ViewpointNet", "conv_vp", x, side)
    x = leaky(_fc(p, "ViewpointNet", "vp1", leaky(_fc(p, "ViewpointNet", "vp0", x))))
    return np.concatenate([_fc(p, "ViewpointNet", f"vp_u{a}", x) for a in "xyz"], 1)


def rotation(u):
    """Rodrigues, element by element as the authors' network is specified."""
    theta = np.sqrt(u @ u + 1e-8)
    x, y, z = u / theta
    c, s = np.cos(theta), np.sin(theta)
    t = 1 - c
    return np.array(
        [
            [c + x * x * t, x * y * t - z * s, x * z * t + y * s],
            [y * x * t + z * s, c + y * y * t, y * z * t - x * s],
            [z * x * t - y * s, z * y * t + x * s, c + z * z * t],
        ]
    )


def lifting(p, x, side):
    """Relative coordinates (N, 21, 3) in the paper's keypoint order: flip z of right hands, rows times R."""
    canonical, u = prior(p, x, side), viewpoint(p, x, side)
    canonical = canonical * np.where(side.argmax(1) == 1, -1.0, 1.0)[:, None, None] ** np.array([0, 0, 1])
    return np.stack([canonical[i] @ rotation(u[i]) for i in range(len(x))])

"""Anatomical joints inside MakeHuman's mesh of a hand, and skin weights for them."""

from __future__ import annotations

import numpy as np

# Where the joints are, in shares of the distance from MakeHuman's wrist to the middle finger's web (109 mm on average).
# Each is half-way between two sources: bone lengths of people as shares of hand length (Buchholz, Armstrong and
# Goldstein, Ergonomics 35, 1992; checked against Buryanov and Kotiuk, Int. J. Morphol. 28, 2010), from the wrist crease
# of the mesh; and where the hand landmark network of MediaPipe (Apache-2.0) puts the same keypoint on our own renders,
# which is where users of hand trackers expect it. No photograph and no labelled data set had a part in them.
_WRIST_SHIFT, _THUMB_SHIFT = 0.127, 0.037  # of the wrist along y; of the thumb's second joint towards its third
_THUMB_BASE_SHIFT = (-0.012, -0.09, -0.008)  # x, y, z of the hand frame
_KNUCKLE_SHIFT = (0.135, 0.105, 0.102, 0.113)  # index to little finger, along the metacarpal towards the wrist
DEPTH = (0.36, 0.42, 0.42)
"""Depth of a finger's three joints below the skin of the back, as a share of the thickness of the hand or finger there:
the bones lie nearer to the back than to the flesh of the palm and the pulps, but not as near as the mesh's own joints,
at 0.15 to 0.25. Chosen by eye from anatomy, after fists of ge_dev had shown that those are too near."""
_LONGER = {4: 1.03, 5: 1.09}
"""Factor of the length of ring and little finger: MakeHuman's are 0.92 and 0.70 of the middle finger from knuckle to
tip, people's 0.96 and 0.76 (Buryanov and Kotiuk, bones and pulp)."""
_HAND_LENGTHS = (0.145, 0.228)
"""Range of lengths in metres from MakeHuman's wrist joint, above the crease, to the middle fingertip: schoolchildren to
large men, chosen by hand."""


def unit(v: np.ndarray) -> np.ndarray:
    """Vectors (..., D) at length 1."""
    return v / np.linalg.norm(v, axis=-1, keepdims=True)


def at_depth(
    vertices: np.ndarray, joint: np.ndarray, onwards: np.ndarray, dorsal: np.ndarray, share: float
) -> tuple[np.ndarray, float]:
    """A joint (3,) moved to `share` of the finger's thickness there below the skin of the back, and how far that is."""
    dorsal = unit(dorsal - onwards * (dorsal @ onwards))
    offset = vertices - joint
    column = (np.abs(offset @ onwards) < 0.005) & (np.abs(offset @ np.cross(onwards, dorsal)) < 0.004)
    height = (offset @ dorsal)[column]
    below = share * float(np.ptp(height))
    return joint + dorsal * (height.max() - below), below


def to_hand_frame(
    vertices: np.ndarray, heads: np.ndarray, tails: np.ndarray, bones: tuple[str, ...]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Turn one arm into the hand frame and put the joints at their anatomical places.

    MakeHuman's rig bends the fingers at the webs, has the thumb's second joint too near the wrist and starts the
    hand above the wrist crease.
    """
    index = bones.index
    first = [index(f"finger{k}-1") for k in range(1, 6)]
    vertices, heads, tails = (x.astype(float) - heads[index("wrist")] for x in (vertices, heads, tails))
    length = np.linalg.norm(heads[first[2]]) + np.linalg.norm(tails[index("finger3-3")] - heads[first[2]])
    size = np.clip(length, *_HAND_LENGTHS) / length
    vertices, heads, tails = vertices * size, heads * size, tails * size
    palm = np.linalg.norm(heads[first[2]])
    y = heads[first[2]] / palm
    x = heads[first[1]] - heads[first[4]]
    x = unit(x - y * (x @ y))
    hand = np.stack([x, y, np.cross(x, y)])
    vertices, heads, tails = vertices @ hand.T, heads @ hand.T, tails @ hand.T
    for k in range(1, 5):
        metacarpal = heads[index(f"metacarpal{k}")]
        inwards = unit(metacarpal - heads[first[k]])
        heads[first[k]] += palm * _KNUCKLE_SHIFT[k - 1] * inwards
    heads[first[0]] += palm * np.array(_THUMB_BASE_SHIFT)
    second, third = index("finger1-2"), index("finger1-3")
    heads[second] += _THUMB_SHIFT * palm * unit(heads[third] - heads[second])
    origin = palm * np.array([0, _WRIST_SHIFT, 0])
    vertices, heads, tails = vertices - origin, heads - origin, tails - origin
    heads[index("wrist")] = 0
    return vertices, heads, tails


def lengthen_fingers(
    vertices: np.ndarray, heads: np.ndarray, tails: np.ndarray, weights: np.ndarray, bones: tuple[str, ...]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Give ring and little finger the lengths that people's have, with the palm as it is.

    vertices, heads, tails: of one arm in the hand frame. weights: (V, B) MakeHuman's, which end at the webs.
    """
    vertices, heads, tails = vertices.copy(), heads.copy(), tails.copy()
    for finger, factor in _LONGER.items():
        first, second, third = (bones.index(f"finger{finger}-{j}") for j in (1, 2, 3))
        knuckle = heads[first]
        direction = unit(tails[third] - knuckle)
        share = weights[:, [first, second, third]].sum(axis=1)
        vertices += (factor - 1) * (share * np.maximum((vertices - knuckle) @ direction, 0))[:, None] * direction
        for ends, moved in ((heads, [second, third]), (tails, [first, second, third])):
            ends[moved] += (factor - 1) * ((ends[moved] - knuckle) @ direction)[:, None] * direction
    return vertices, heads, tails


def _smoothstep(x: np.ndarray) -> np.ndarray:
    x = np.clip(x, 0, 1)
    return x * x * (3 - 2 * x)


def skin_weights(vertices: np.ndarray, heads: np.ndarray, weights: np.ndarray, bones: tuple[str, ...]) -> np.ndarray:
    """Skin weights (V, B) that bend where the corrected joints are."""
    index = bones.index
    weights = weights.astype(float).copy()
    first = [index(f"finger{k}-1") for k in range(2, 6)]
    hand = [index("wrist")] + [index(f"metacarpal{k}") for k in range(1, 5)]

    share = weights[:, first + hand].sum(axis=1)
    on_finger = weights[:, first] / np.maximum(share, 1e-9)[:, None]
    weights[:, first + hand] = 0
    bend, distance = np.zeros((len(vertices), 4)), np.zeros((len(vertices), 4))
    for k in range(4):
        direction = unit(heads[first[k]] - heads[index(f"metacarpal{k + 1}")])
        offset = vertices - heads[first[k]]
        along = offset @ direction
        lateral = offset - along[:, None] * direction
        distance[:, k] = np.linalg.norm(lateral[:, :2], axis=1)
        bend[:, k] = _smoothstep((along + 0.008) / 0.018)
    near = np.exp(-0.5 * (distance / 0.006) ** 2) + 1e-12
    near /= near.sum(axis=1, keepdims=True)
    certain = np.clip(on_finger.sum(axis=1, keepdims=True), 0, 1)
    near = near * (1 - certain) + on_finger
    for k in range(4):
        weights[:, first[k]] = share * near[:, k] * bend[:, k]
        target = index(f"metacarpal{k + 1}") if k >= 2 else index("wrist")
        base = _smoothstep((vertices[:, 1] - 0.25 * heads[first[k], 1]) / (0.6 * heads[first[k], 1]))
        rest = share * near[:, k] * (1 - bend[:, k])
        weights[:, target] += rest * base
        weights[:, index("wrist")] += rest * (1 - base)

    thumb = [index("finger1-1"), index("finger1-2")]
    share = weights[:, thumb].sum(axis=1)
    direction = unit(heads[index("finger1-3")] - heads[thumb[0]])
    t = _smoothstep(((vertices - heads[thumb[1]]) @ direction + 0.009) / 0.018)
    weights[:, thumb[1]], weights[:, thumb[0]] = share * t, share * (1 - t)

    arm = index("lowerarm02")
    share = weights[:, arm] + weights[:, index("wrist")]
    t = _smoothstep((vertices[:, 1] + 0.018) / 0.034)
    weights[:, index("wrist")], weights[:, arm] = share * t, share * (1 - t)
    return weights / weights.sum(axis=1, keepdims=True)

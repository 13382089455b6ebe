"""Small pictures and videos for tests, made as they are needed."""

import struct

import cv2
import numpy as np

from hand_pose_3d.outputs import VideoWriter


def scene(height=48, width=64):
    """A smooth RGB picture whose channels differ."""
    v, u = np.mgrid[0:height, 0:width]
    return np.stack([40 + 3 * u, 200 - 3 * v, 60 + u + 2 * v], axis=-1).astype(np.uint8)


def encoded(image_rgb, suffix, *parameters):
    """Bytes of a picture's file; grey pictures have two axes."""
    image = image_rgb if image_rgb.ndim == 2 else image_rgb[..., [2, 1, 0, 3][: image_rgb.shape[2]]]
    return cv2.imencode(suffix, np.ascontiguousarray(image), list(parameters))[1].tobytes()


LEVELS = range(40, 220, 6)


def video(path, levels=LEVELS, fps=30, size=(64, 48)):
    """An MP4 of even grey pictures of these levels."""
    writer = VideoWriter(path, fps)
    for number, level in enumerate(levels):
        writer.add(np.full((size[1], size[0], 3), level, np.uint8), number / fps)
    return writer.close()


def mjpeg(path, count=30, fps=30):
    """An AVI of JPEGs; returns where each of them begins in the file."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), fps, (64, 48))
    for number in range(count):
        writer.write(np.ascontiguousarray(np.roll(scene(), number, axis=1)))
    writer.release()
    data, starts, at = path.read_bytes(), [], 0
    while (at := data.find(b"00dc", at)) >= 0 and len(starts) < count:
        at += 8
        starts.append(at)
    return starts


def slow_second_half(path):
    """Change the table of times in an MP4 so that frames of its second half last three times as long."""
    data = bytearray(path.read_bytes().replace(b"edts", b"free"))
    at = data.find(b"stts")
    count, length = struct.unpack(">II", data[at + 12 : at + 20])
    half = count // 2
    data[at + 8 : at + 20] = struct.pack(">IIIII", 2, half, length, count - half, 3 * length)
    for box in (b"stts", b"stbl", b"minf", b"mdia", b"trak", b"moov"):
        start = data.find(box) - 4
        data[start : start + 4] = struct.pack(">I", struct.unpack(">I", data[start : start + 4])[0] + 8)
    path.write_bytes(data)


def damaged(data, rng):
    """Cut, flipped in a few bits, with a piece missing, doubled, or of zeros; now and then as it was."""
    data = bytearray(data)
    for _ in range(rng.choice((0, 1, 1, 1, 2, 4))):
        kind, at = rng.randrange(6), rng.randrange(max(len(data), 1))
        length = rng.choice((1, 4, 64, 400))
        if kind == 0:
            del data[at:]
        elif kind == 1:
            del data[at : at + length]
        elif kind == 2:
            data[at:at] = data[at : at + length]
        elif kind == 3:
            data[at : at + length] = bytes(min(length, len(data) - at))
        else:
            for _ in range(rng.choice((1, 3, 30))):
                if data:
                    where = rng.randrange(min(len(data), rng.choice((64, 10**9))))
                    data[where] ^= 1 << rng.randrange(8)
    return bytes(data)

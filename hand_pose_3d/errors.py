"""The one family of errors that hand_pose_3d raises on purpose."""


class HandPoseError(Exception):
    """Base of every error raised on purpose; its text is one sentence for the person who meets it."""


class InvalidInputError(HandPoseError, ValueError):
    """An argument, image, file or message does not have the form that is asked for."""


class WeightsError(HandPoseError):
    """A weights file is missing, damaged or does not belong to the network."""


class DeviceError(HandPoseError):
    """The compute device that was asked for cannot be used."""

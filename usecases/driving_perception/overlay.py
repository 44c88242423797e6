"""`python -m usecases.driving_perception.overlay BUNDLE VIDEO_OR_FOLDER OUT`: draw the predictions of a bundle over a video or images."""

from __future__ import annotations

import argparse
import base64
import io
import sys
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tasks.contract.errors import BundleError, DataError, UserError
from tasks.serving.bundle import Bundle, open_bundle
from tasks.serving.released import find_bundle
from usecases.driving_perception.codec import RoadCodec
from usecases.driving_perception.drawing import overlay
from usecases.driving_perception.heads.table import HEADS
from usecases.driving_perception.yaw import WIDE, same_shape
from usecases.images import SUFFIXES, as_png

VIDEOS = frozenset({".mp4", ".mov", ".mkv", ".avi", ".webm", ".m4v"})
USUAL_RATE = 20  # frames per second of a video made from images
EVEN = 2  # width and height of a video are multiples of it


class Frames(Protocol):
    """Named images in the order of time, their number (0: not known), and frames per second (0: single images)."""

    count: int
    rate: float

    def __iter__(self) -> Iterator[tuple[str, bytes]]: ...


class Pictures:
    """The images of a folder in the order of their names, or one image. Raises `DataError`: there is no image."""

    rate = 0.0

    def __init__(self, path: Path) -> None:
        found = [path] if path.is_file() else sorted(path.rglob("*"))
        self.paths = [one for one in found if one.suffix.lower() in SUFFIXES]
        if not self.paths:
            raise DataError(f"There is no image in {path}. Give a video ({', '.join(sorted(VIDEOS))}), a folder of images or an image.")
        self.count = len(self.paths)

    def __iter__(self) -> Iterator[tuple[str, bytes]]:
        return ((path.stem, path.read_bytes()) for path in self.paths)


class Video:
    """The frames of a video. Raises `DataError`: it cannot be read."""

    def __init__(self, path: Path) -> None:
        self.path, self.av = path, _av()
        try:
            with self.av.open(str(path)) as video:
                stream = video.streams.video[0]
                self.count, self.rate = stream.frames, float(stream.average_rate or USUAL_RATE)
        except (self.av.FFmpegError, IndexError) as error:
            raise DataError(f"{path} cannot be read as a video: {error}.") from None

    def __iter__(self) -> Iterator[tuple[str, bytes]]:
        with self.av.open(str(self.path)) as video:
            for number, frame in enumerate(video.decode(video=0)):
                file = io.BytesIO()
                frame.to_image().save(file, "BMP")
                yield f"{number:06d}", file.getvalue()


class Summary:
    """Counts for the summary at the end."""

    def __init__(self, heads: Sequence[str]) -> None:
        self.heads = heads
        self.actions: Counter[str] = Counter()
        self.trusted, self.frames, self.seconds = 0, 0, 0.0
        self.flicker: list[float] = []
        self.before: dict[str, Any] | None = None

    def add(self, answer: dict[str, Any], seconds: float) -> None:
        self.frames += 1
        self.seconds += seconds
        self.trusted += answer["trusted"]
        self.actions[answer["advice"]["action"]] += 1
        if self.before is not None:
            changes = [HEADS[name].change(answer, self.before) for name in self.heads]
            self.flicker += [change for change in changes if change is not None]
        self.before = answer

    def __str__(self) -> str:
        lines = [f"{self.frames} frames, {self.frames / max(self.seconds, 1e-9):.1f} per second from image to answer"]
        lines.append(f"{self.trusted / max(self.frames, 1):.0%} trusted")
        lines.append("advice: " + ", ".join(f"{action} {count}" for action, count in self.actions.most_common()))
        if self.flicker:
            lines.append(f"flicker: {np.mean(self.flicker):.1%} of the pixels change class between successive frames")
        return "\n".join(lines)


def draw_all(bundle: Bundle, frames: Frames, out: Path) -> Summary:
    """Answer every frame, and write the frames with their answers drawn over them.

    Args:
        bundle: of driving perception.
        frames: to be answered.
        out: a video by its suffix, else a folder for images.

    Returns:
        The summary.

    Raises:
        BundleError: the bundle is of another use case.
    """
    if not isinstance(bundle.codec, RoadCodec):
        raise BundleError(f"The bundle {bundle.folder} is of {bundle.usecase.name}; give one of driving_perception.")
    card = bundle.codec.card
    summary = Summary(card["heads"])
    writing = _video(out, frames.rate or USUAL_RATE) if out.suffix.lower() in VIDEOS else _folder(out)
    with writing as write, _bar() as bar:
        task = bar.add_task("overlay", total=frames.count or None)
        before = deque[bytes](maxlen=bundle.codec.counts.get("turn", 0))
        for name, picture in frames:
            (image,) = bundle.codec.images([picture])
            started = time.perf_counter()
            answer = bundle.answer([following(picture, image, before)])[0]
            summary.add(answer, time.perf_counter() - started)
            write(name, overlay(image, answer, card))
            bar.advance(task)
    return summary


def following(picture: bytes, image: Image.Image, before: deque[bytes]) -> Any:
    """The request for an image of a video, with the preceding images if the network has yaw rates as inputs.

    Args:
        picture: the bytes of the image.
        image: the decoded image.
        before: reduced preceding images; this one is appended. They are cleared if it has another aspect ratio, as another camera has.

    Returns:
        The request.
    """
    if not before.maxlen:
        return picture
    if before and not same_shape(Image.open(io.BytesIO(before[-1])), image):
        before.clear()
    asked, *earlier = (base64.b64encode(one).decode() for one in (picture, *before))
    before.append(as_png(image.resize((WIDE, max(1, round(WIDE * image.height / image.width))), Image.Resampling.BOX)))
    return {"b64": asked, "before": earlier} if earlier else picture


class Write(Protocol):
    def __call__(self, name: str, picture: Image.Image) -> None: ...


@contextmanager
def _folder(out: Path) -> Iterator[Write]:
    out.mkdir(parents=True, exist_ok=True)
    yield lambda name, picture: picture.save(out / f"{name}.png", compress_level=1)


@contextmanager
def _video(out: Path, rate: float) -> Iterator[Write]:
    av = _av()
    out.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(out), "w") as video:
        stream: Any = None

        def write(name: str, picture: Image.Image) -> None:
            nonlocal stream
            if stream is None:
                stream = video.add_stream("h264" if out.suffix.lower() != ".webm" else "vp9", rate=round(rate))
                stream.width, stream.height = (side - side % EVEN for side in picture.size)
                stream.pix_fmt = "yuv420p"
            video.mux(stream.encode(av.VideoFrame.from_image(picture.convert("RGB").resize((stream.width, stream.height)))))

        yield write
        if stream is not None:
            video.mux(stream.encode())


def _bar() -> AbstractContextManager[Progress]:
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    return Progress(*columns, console=Console(stderr=True))


def _av() -> Any:
    try:
        import av
    except ImportError:
        raise DataError("Videos need the package av: pip install av. Folders of images do not.") from None
    return av


def main(arguments: Sequence[str] = sys.argv[1:], prog: str = "python -m usecases.driving_perception.overlay") -> int:
    """Draw what a bundle sees over frames; the exit status is 2 after a user's mistake, which is printed."""
    parser = argparse.ArgumentParser(prog=prog, description=__doc__)
    parser.add_argument("bundle", metavar="MODEL", help="a released model, the id of a run, or a folder of a bundle")
    parser.add_argument("frames", type=Path, metavar="VIDEO_OR_FOLDER", help="a video, a folder of images or one image")
    parser.add_argument("out", type=Path, metavar="OUT", help="a video such as out.mp4, or a folder for images")
    parser.add_argument("--threads", type=int, default=1, help="threads for one frame (default: 1)")
    given = parser.parse_args(arguments)
    try:
        if not given.frames.exists():
            raise DataError(f"{given.frames} does not exist. Give a video, a folder of images or one image.")
        frames = Video(given.frames) if given.frames.suffix.lower() in VIDEOS else Pictures(given.frames)
        summary = draw_all(open_bundle(find_bundle(given.bundle), given.threads), frames, given.out)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{summary}\n{given.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

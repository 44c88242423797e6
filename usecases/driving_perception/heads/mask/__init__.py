"""Semantic segmentation: masks with the class of every pixel."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from PIL import Image

from tasks.contract.blocks import AnswerBlock, Overlay, Region
from tasks.contract.errors import DataError
from tasks.contract.findings import Findings
from tasks.contract.types import Arrays, Predict, Say
from usecases.driving_perception.frames import Frame, Source
from usecases.driving_perception.heads.head import FrameInfo, Head, Plan, Predictions, Reading
from usecases.driving_perception.masks import blended, colours, read_mask, resized
from usecases.driving_perception.pictures import hexadecimal
from usecases.driving_perception.scenes import IGNORED, StoredScenes
from usecases.images import UnusableImage

if TYPE_CHECKING:
    from torch import Tensor

    from usecases.driving_perception import DrivingPerception
    from usecases.driving_perception.heads.mask.network import MaskNetwork
    from usecases.driving_perception.heads.mask.scores import MaskEvaluator
    from usecases.driving_perception.network import RoadNetwork
    from usecases.driving_perception.window import View

SAME_SHAPE = 0.02  # relative difference of the aspect ratios below which a mask is resized to its image
MAX_UNKNOWN = 0.5  # largest accepted share of a mask's pixels without a known class
MIN_CONFIDENCE = 0.5  # mean over the pixels below which an answer is doubted
FAST = 1  # compression level of a mask: it has few colours, and answers must keep up with a video
CALIBRATION_PIXELS = 500  # of each frame
CLASSES = 4  # in the gallery of attributions
SAY_EVERY = 25  # frames


class MaskHead(Head):
    """The class of every pixel and its confidence."""

    name: ClassVar[str] = "mask"
    outputs: ClassVar[tuple[str, ...]] = ("mask", "sure")
    arrays: ClassVar[tuple[str, ...]] = ("mask",)
    metric: ClassVar[str] = "miou"
    scenario_metrics: ClassVar[tuple[str, ...]] = ("pixel_accuracy",)
    dense: ClassVar[bool] = True

    # -- labels ---------------------------------------------------------------------------------------------------
    def label(self, frame: Frame, picture: Image.Image, reading: Reading) -> bool | None:
        """Check the mask of a frame, and count values and colours of its pixels that belong to no class.

        Args:
            frame: as its reader found it.
            picture: its decoded image.
            reading: the source with its classes, and the counts.

        Returns:
            True; None for a frame without a mask.

        Raises:
            UnusableImage: the mask is damaged, has another aspect ratio, or is mostly of no known class.
        """
        if frame.mask is None:
            return None
        mask, unknown = read_mask(frame.mask(), reading.source)
        height, width = mask.shape
        if (width, height) != picture.size:
            if abs(width / height * picture.height / picture.width - 1) > SAME_SHAPE:
                raise UnusableImage(f"the image is {picture.width} x {picture.height}, its mask {width} x {height}")
            reading.findings.note("mask of another size than its image", frame.name, "resized")
        if sum(unknown.values()) > MAX_UNKNOWN * mask.size:
            raise UnusableImage(f"most of the mask has values that are in no list of classes: {', '.join(list(unknown)[:3])}")
        if (mask == IGNORED).all():
            raise UnusableImage("no pixel of the mask belongs to a class")
        for called, pixels in unknown.items():
            reading.state[called] = reading.state.get(called, 0) + pixels
        return True

    def finish(self, reading: Reading) -> None:
        for called, pixels in sorted(reading.state.items(), key=lambda one: -one[1]):
            kind = "pixels with a value that is not in the list of classes"
            reading.findings.note(kind, f"{called}: {pixels:,} pixels", "ignored", pixels)

    def plan(self, settings: DrivingPerception, frames: Sequence[FrameInfo], sources: Sequence[Source]) -> dict[str, Any]:
        classes = list(dict.fromkeys(name for source in sources for name in source.classes))
        if len(classes) < 2:
            raise DataError(f"The masks contain only the classes {classes}. Segmentation needs at least two classes.")
        own = {source.classes[number]: list(colour) for source in reversed(sources) for colour, number in source.colours.items()}
        return {"classes": classes, "colours": [own.get(n, list(c)) for n, c in zip(classes, colours(len(classes)), strict=True)]}

    def write(self, folder: Path, frames: Sequence[FrameInfo], plan: Plan, settings: DrivingPerception, say: Say) -> None:
        """Write mask uint8 [N, H, W], the number of each pixel's class, or 255 for pixels that are ignored.

        Args:
            folder: of the split.
            frames: of the split.
            plan: of all heads.
            settings: of the use case.
            say: called with the progress.
        """
        shape = (len(frames), plan.height, plan.width)
        masks = np.lib.format.open_memmap(folder / "mask.npy", "w+", np.uint8, shape)
        for row, one in enumerate(frames):
            if row % SAY_EVERY == 0:
                say(f"writing {folder.name}: {row:,} of {len(frames):,} masks")
            masks[row] = self._mask(one, plan)
        masks.flush()

    def _mask(self, one: FrameInfo, plan: Plan) -> np.ndarray:
        if one.frame.mask is None:
            return np.full((plan.height, plan.width), IGNORED, dtype=np.uint8)
        classes, number = plan.parts[self.name]["classes"], np.full(256, IGNORED, dtype=np.uint8)
        number[: len(one.source.classes)] = [classes.index(name) for name in one.source.classes]
        return resized(number[read_mask(one.frame.mask(), one.source)[0]], plan.width, plan.height)

    def card(self, part: dict[str, Any], folder: Path, findings: Findings) -> dict[str, Any]:
        """The classes, their colours, and their shares of the training pixels.

        Args:
            part: classes and colours.
            folder: of the data set, with the arrays of all splits.
            findings: where classes without training pixels are noted.

        Returns:
            `{"classes", "colours": [[r, g, b]], "shares"}`.
        """
        counts = np.zeros(len(part["classes"]), dtype=np.int64)
        for mask in np.load(folder / "train" / "mask.npy", mmap_mode="r"):
            counts += np.bincount(mask[mask != IGNORED], minlength=len(counts))
        for name, count in zip(part["classes"], counts, strict=True):
            if not count:
                findings.note("class without training pixels", name, "kept; the network cannot learn it")
        return {**part, "shares": (counts / max(int(counts.sum()), 1)).tolist()}

    def names(self, card: dict[str, Any]) -> list[str]:
        return card["classes"]

    def facts(self, card: dict[str, Any], frames: Sequence[FrameInfo]) -> dict[str, str]:
        shares = zip(card["classes"], card["shares"], strict=True)
        return {"share of the training pixels": ", ".join(f"{name} {share:.1%}" for name, share in shares)}

    # -- network --------------------------------------------------------------------------------------------------
    def weight(self, settings: DrivingPerception) -> float:
        return settings.mask_weight

    def network(self, features: int, card: dict[str, Any], settings: DrivingPerception) -> MaskNetwork:
        from usecases.driving_perception.heads.mask.network import MaskNetwork

        return MaskNetwork(features, len(card["classes"]), settings.dropout)

    def augment(self, batch: dict[str, Tensor], view: View) -> dict[str, Tensor]:
        from usecases.driving_perception.heads.mask.network import cut_mask

        return {"mask": cut_mask(batch["mask"], view)}

    def loss(self, network: MaskNetwork, predictions: Predictions, batch: dict[str, Tensor], settings: DrivingPerception) -> Tensor:
        from usecases.driving_perception.heads.mask.network import pixel_loss

        return pixel_loss(predictions[0], batch["mask"], settings.balance == "log")

    def distance(self, predictions: Predictions, teacher: Predictions, temperature: float) -> Tensor:
        """Channel-wise distillation, see `heads.mask.network.channel_wise`.

        Args:
            predictions: of the student.
            teacher: the teacher's predictions for the same frames.
            temperature: that logits are divided by.

        Returns:
            A scalar.
        """
        from usecases.driving_perception.heads.mask.network import channel_wise

        return channel_wise(predictions[0], teacher[0], temperature)

    def answers(self, network: MaskNetwork, predictions: Predictions) -> Predictions:
        """The class of each pixel, int64 [N, H, W], and its confidence, float32 [N, H, W], interpolated from the features' resolution.

        At full resolution the confidence would take ONNX Runtime as long as half of the network in int8.
        """
        from usecases.driving_perception.heads.mask.network import enlarged

        logits, coarse = predictions
        scaled = coarse / network.temperature
        # the maximum of the softmax without computing the softmax, which is slow over channels
        confidence = 1 / (scaled - scaled.amax(1, keepdim=True)).exp().sum(1, keepdim=True)
        return logits.argmax(1), enlarged(confidence, logits.shape[2:])[:, 0]

    def calibrate(self, network: MaskNetwork, batches: Iterable[tuple[Arrays, Predictions]]) -> None:
        """Temperature scaling (Guo 2017) on a sample of the pixels of each frame."""
        from usecases.calibration import best_temperature

        random = np.random.default_rng(0)
        logits, right = [], []
        for batch, (found, _) in batches:
            for mask, one in zip(batch["mask"].reshape(len(found), -1), found.flatten(2).transpose(1, 2).numpy(), strict=True):
                known = np.flatnonzero(mask != IGNORED)
                chosen = random.choice(known, min(CALIBRATION_PIXELS, len(known)), replace=False)
                logits.append(one[chosen])
                right.append(mask[chosen, None] == np.arange(one.shape[1]))
        network.temperature.fill_(best_temperature(np.concatenate(logits), np.concatenate(right)))

    # -- quality --------------------------------------------------------------------------------------------------
    def evaluator(self, scenes: StoredScenes, card: dict[str, Any]) -> MaskEvaluator:
        from usecases.driving_perception.heads.mask.scores import MaskEvaluator

        return MaskEvaluator(card["classes"])

    def figures(self, evaluator: MaskEvaluator, predict: Predict, scenes: StoredScenes, card: dict[str, Any]) -> list[dict[str, Any]]:
        from usecases.driving_perception.heads.mask.figures import class_by_class, worst_frames

        return [*class_by_class(evaluator, card), worst_frames(predict, scenes, card)]

    def evidence(self, network: MaskNetwork, predictions: Predictions, number: int) -> Tensor:
        """The mean logit of a class over the pixels where it is predicted (Seg-Grad-CAM, Vinogradova 2020), or over all if there are none.

        Args:
            network: of this head.
            predictions: its predictions for the images.
            number: of the class.

        Returns:
            [N].
        """
        logits = predictions[0]
        chosen = (logits.argmax(1) == number).flatten(1)
        chosen = chosen | ~chosen.any(1, keepdim=True)
        return (logits[:, number].flatten(1) * chosen).sum(1) / chosen.sum(1)

    def attributions(self, network: RoadNetwork, scenes: StoredScenes, card: dict[str, Any]) -> dict[str, Any]:
        from usecases.driving_perception.heat import class_gallery

        masks = scenes.arrays["mask"]
        some = masks[scenes.rows_with(self.name)[::10]]
        counts = np.bincount(some[some != IGNORED], minlength=len(card["classes"]))
        frequent = [int(number) for number in np.argsort(-counts, kind="stable")[:CLASSES] if counts[number]]
        rows = {number: [row for row in scenes.rows_with(self.name) if (masks[row] == number).any()] for number in frequent}
        caption = "HiResCAM: red where features increase the class's score."
        return class_gallery(network, self, scenes, card["classes"], rows, "Evidence for classes", caption)

    # -- service --------------------------------------------------------------------------------------------------
    def answer(self, outputs: Arrays, picture: Image.Image, card: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
        """The mask, its confidence, and the share of each class.

        Args:
            outputs: of the graph, without a batch axis.
            picture: the image of the request.
            card: `assets/scene.json`.

        Returns:
            `{"confidence", "shares": {class: share of the pixels}, "mask"}`, the mask as a PNG in base64 with the size of the image, whose
            values are numbers of classes; and reasons to doubt it.
        """
        classes, mask = card["classes"], outputs["mask"]
        share = np.bincount(mask.ravel(), minlength=len(classes)) / mask.size
        confidence = float(outputs["sure"].mean())
        file = io.BytesIO()
        numbers = Image.fromarray(resized(mask.astype(np.uint8), picture.width, picture.height))
        numbers.putpalette([channel for colour in card["colours"] for channel in colour])
        numbers.save(file, "PNG", compress_level=FAST)
        answer = {
            "confidence": round(confidence, 4),
            "shares": {classes[i]: round(float(share[i]), 4) for i in np.argsort(-share, kind="stable") if share[i] > 0},
            "mask": base64.b64encode(file.getvalue()).decode(),
        }
        return answer, [f"the confidence of the mask is low: {confidence:.0%} on average"] if confidence < MIN_CONFIDENCE else []

    def blocks(self, answer: Mapping[str, Any], card: Mapping[str, Any]) -> list[AnswerBlock]:
        """The uncertainty of each pixel if the answer was explained, and the legend of the mask: classes by their share of the image."""
        paint = dict(zip(card["classes"], card["colours"], strict=True))
        items = [Region(label=name, value=share, colour=hexadecimal(paint[name])) for name, share in answer["shares"].items()]
        caption = f"Share of the image by class. Mean confidence: {answer['confidence']:.0%}."
        blocks: list[AnswerBlock] = [Overlay(kind="overlay", title="Classes", caption=caption, items=items)]
        unsure = answer.get("explanation", {}).get("unsure")
        if unsure:
            caption = "The brighter, the lower the confidence."
            blocks.insert(0, Overlay(kind="overlay", title="Uncertainty", caption=caption, image=unsure, items=[]))
        return blocks

    def advice(self, outputs: Arrays, answer: dict[str, Any], picture: Image.Image, card: dict[str, Any]) -> dict[str, Any]:
        return {"mask": outputs["mask"], "classes": card["classes"]}

    def draw(self, picture: Image.Image, answer: dict[str, Any], card: dict[str, Any]) -> Image.Image:
        return blended(picture, _decoded(answer), card["colours"])

    def explanations(self, outputs: Arrays, size: tuple[int, int]) -> dict[str, Image.Image]:
        """`unsure`: the brighter, the lower the confidence."""
        uncertainty = Image.fromarray(np.rint(255 * (1 - outputs["sure"])).clip(0, 255).astype(np.uint8))
        return {"unsure": uncertainty.resize(size, Image.Resampling.BILINEAR)}

    def change(self, answer: dict[str, Any], before: dict[str, Any]) -> float | None:
        """Share of the pixels whose class changes."""
        now, earlier = _decoded(answer), _decoded(before)
        return float((now != earlier).mean()) if now.shape == earlier.shape else None


def _decoded(answer: dict[str, Any]) -> np.ndarray:
    """The mask of an answer: numbers of classes, uint8 [H, W]."""
    with Image.open(io.BytesIO(base64.b64decode(answer["mask"]))) as mask:
        return np.asarray(mask)

"""Steering: predicts the driver's steering (and throttle) from an image, and from the speed and yaw rates where they are inputs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np
from PIL import Image, ImageDraw

from tasks.contract.blocks import AnswerBlock, Gauge
from tasks.contract.errors import DataError
from tasks.contract.findings import Findings
from tasks.contract.types import Arrays, Predict, Say
from usecases.driving_perception.frames import Frame, Source
from usecases.driving_perception.heads.head import FrameInfo, Head, Plan, Predictions, Reading
from usecases.driving_perception.scenes import MAX_YAW_RATES, StoredScenes, conditioning_counts, with_indicators
from usecases.driving_perception.yaw import strip, yaw_between

if TYPE_CHECKING:
    from torch import Tensor

    from usecases.driving_perception import DrivingPerception
    from usecases.driving_perception.heads.steering.network import SteeringNetwork
    from usecases.driving_perception.heads.steering.scores import SteeringEvaluator
    from usecases.driving_perception.network import RoadNetwork
    from usecases.driving_perception.window import View

MAX_UNKNOWN = 0.5  # largest share of the moments without a yaw rate
MIN_SPREAD, OUTLIER_DEVIATIONS = 1e-3, 6.0  # least standard deviation of a target; deviations from the mean beyond which values are clipped
WEIGHT_WITHOUT_IMAGE = 0.2  # of the loss without the image (after ModDrop, Neverova 2016), so that the image can be trusted less
TRUSTS = tuple(trust / 10 for trust in range(10, -1, -1))  # candidates of the trust in the image; the first of equals is chosen
FULL_LOCK = 1.0  # steering at the ends of the gauge; a larger one widens it
MAX_DEVIATION = 1.5  # times that of the training values, above which an answer is doubted


@dataclass(frozen=True)
class Moment:
    """Steering, throttle and speed of a moment, and the yaw rates of the preceding moments, the latest first, see `yaw`."""

    steering: float
    throttle: float | None
    speed: float | None
    yaw_rates: tuple[float, ...]


class SteeringHead(Head):
    """The steering, and the throttle where it was recorded, with standard deviations."""

    name: ClassVar[str] = "steering"
    outputs: ClassVar[tuple[str, ...]] = ("values", "deviations")
    arrays: ClassVar[tuple[str, ...]] = ("values",)
    metric: ClassVar[str] = "steering_r2"
    scenario_metrics: ClassVar[tuple[str, ...]] = ("steering_rmse", "steering_mae")
    inputs: ClassVar[tuple[str, ...]] = ("speed", "turn")
    max_width: ClassVar[int] = 160

    # -- labels ---------------------------------------------------------------------------------------------------
    def label(self, frame: Frame, picture: Image.Image, reading: Reading) -> Moment | None:
        if frame.steering is None:
            return None
        return Moment(frame.steering, frame.throttle, frame.speed, _yaw_rates(frame, picture, reading.state))

    def plan(self, settings: DrivingPerception, frames: Sequence[FrameInfo], sources: Sequence[Source]) -> dict[str, Any]:
        """Choose the targets and the conditioning inputs.

        Args:
            settings: of the use case.
            frames: all frames with a steering.
            sources: all sources.

        Returns:
            `{"targets": [name], "inputs": [name]}`.

        Raises:
            DataError: an input is asked for that was not recorded.
        """
        moments: list[Moment] = [one.labels[self.name] for one in frames]
        known = {
            "speed": all(moment.speed is not None for moment in moments),
            "turn": sum(bool(moment.yaw_rates) for moment in moments) > MAX_UNKNOWN * len(moments),
        }
        if settings.speed == "yes" and not known["speed"]:
            raise DataError("--usecase.speed yes: the speed was not recorded at every moment of the drives. Set it to auto or no.")
        if settings.turn == "yes" and not known["turn"]:
            raise DataError("--usecase.turn yes: most moments of the drives are not consecutive. Set it to auto or no.")
        asked = {"speed": settings.speed, "turn": settings.turn}
        targets = ["steering", *(["throttle"] if all(moment.throttle is not None for moment in moments) else [])]
        return {"targets": targets, "inputs": [name for name in self.inputs if known[name] and asked[name] != "no"]}

    def write(self, folder: Path, frames: Sequence[FrameInfo], plan: Plan, settings: DrivingPerception, say: Say) -> None:
        """Write values float32 [N, K], nan without a label, and the inputs speed float32 [N, 2] and turn float32 [N, 2 MAX_YAW_RATES].

        Args:
            folder: of the split.
            frames: of the split.
            plan: of all heads.
            settings: of the use case.
            say: not used.
        """
        part, moments = plan.parts[self.name], [one.labels.get(self.name) for one in frames]
        rows = [[np.nan, np.nan] if one is None else [one.steering, np.nan if one.throttle is None else one.throttle] for one in moments]
        values = np.array(rows, dtype=np.float32)[:, : len(part["targets"])]
        if folder.name == "train":
            values = self._smoothed(frames, values, settings.steadiness)
        values[:, 0] += settings.side_steering * np.array([one.frame.side for one in frames], dtype=np.float32)
        np.save(folder / "values.npy", values)
        numbers = {
            "speed": ([(one.frame.speed,) for one in frames], 1),
            "turn": ([one.yaw_rates if one else () for one in moments], MAX_YAW_RATES),
        }
        for name in part["inputs"]:
            of_each, count = numbers[name]
            np.save(folder / f"{name}.npy", np.stack([with_indicators(known, count) for known in of_each]))

    def _smoothed(self, frames: Sequence[FrameInfo], values: np.ndarray, steadiness: float) -> np.ndarray:
        """Smooth values along each stretch of moments; the side cameras of a moment come after its centre camera and get the same."""
        from scipy.ndimage import gaussian_filter1d

        smooth = values.copy()
        driven = [row for row, one in enumerate(frames) if self.name in one.labels]
        for _, rows in groupby(driven, lambda row: frames[row].stretch or frames[row].frame.recording):
            listed = list(rows)
            middle = [row for row in listed if not frames[row].frame.side]
            if steadiness and middle:
                places = np.maximum(np.searchsorted(middle, listed, side="right") - 1, 0)
                smooth[listed] = gaussian_filter1d(values[middle], steadiness, axis=0, mode="nearest")[places]
        return smooth

    def card(self, part: dict[str, Any], folder: Path, findings: Findings) -> dict[str, Any]:
        """The targets and inputs with their statistics on the training split.

        Args:
            part: targets and inputs.
            folder: of the data set, with the arrays of all splits.
            findings: not used.

        Returns:
            `{"targets", "usual": [mean], "spread": [standard deviation], "ranges": [[least, largest]]}`, and for inputs `{"speed": [mean,
            deviation], "turn": [mean, deviation], "turns": number of yaw rates}`.
        """
        values = np.load(folder / "train" / "values.npy")
        card: dict[str, Any] = {
            "targets": part["targets"],
            "usual": np.nanmean(values, 0).astype(float).round(6).tolist(),
            "spread": np.nanstd(values, 0).clip(MIN_SPREAD).astype(float).round(6).tolist(),
            "ranges": [_range(np.concatenate([column, -column]) if place == 0 else column) for place, column in enumerate(values.T)],
        }
        for name in part["inputs"]:
            numbers = np.load(folder / "train" / f"{name}.npy")
            known = numbers[numbers[:, 1] > 0, 0]
            usual = float(known.mean()) if name == "speed" else 0.0  # mirroring changes the sign of yaw rates
            card[name] = [round(usual, 6), round(max(float(np.sqrt(np.square(known - usual).mean())), MIN_SPREAD), 6)]
        return card | ({"turns": MAX_YAW_RATES} if "turn" in card else {})

    def names(self, card: dict[str, Any]) -> list[str]:
        return card["targets"]

    def facts(self, card: dict[str, Any], frames: Sequence[FrameInfo]) -> dict[str, str]:
        steering = np.array([one.labels[self.name].steering for one in frames])
        return {
            "inputs of the network": " and ".join(("the image", *(name for name in self.inputs if name in card))),
            "steering": f"from {steering.min():.2f} to {steering.max():.2f}, exactly 0 in {(steering == 0).mean():.0%}",
        }

    # -- network --------------------------------------------------------------------------------------------------
    def weight(self, settings: DrivingPerception) -> float:
        return settings.steering_weight

    def network(self, features: int, card: dict[str, Any], settings: DrivingPerception) -> SteeringNetwork:
        from usecases.driving_perception.heads.steering.network import SteeringNetwork

        return SteeringNetwork(features, settings.dropout, card)

    def keeps_view(self, batch: dict[str, Tensor]) -> Tensor:
        return ~batch["values"].isnan().any(1)

    def augment(self, batch: dict[str, Tensor], view: View) -> dict[str, Tensor]:
        """Flip the steering and the yaw rates with the image; labels of images that are not used whole become nan."""
        import torch

        flip, seen = view.window.flip, {}
        sign = torch.ones_like(batch["values"])
        sign[:, 0] = flip
        if "turn" in batch:
            seen["turn"] = batch["turn"] * torch.stack([flip, torch.ones_like(flip)], 1).repeat(1, batch["turn"].shape[1] // 2)
        return {**seen, "values": torch.where(view.steady[:, None], batch["values"] * sign, torch.nan)}

    def loss(self, network: SteeringNetwork, predictions: Predictions, batch: dict[str, Tensor], settings: DrivingPerception) -> Tensor:
        import torch

        from usecases.driving_perception.heads.steering.network import histogram_loss

        logits, picture, known = predictions
        unseen = network.logits(torch.zeros_like(picture), known)
        return histogram_loss(logits, network.steps, batch["values"]) + WEIGHT_WITHOUT_IMAGE * histogram_loss(
            unseen, network.steps, batch["values"]
        )

    def distance(self, predictions: Predictions, teacher: Predictions, temperature: float) -> Tensor:
        """The Kullback-Leibler divergence from the teacher's softened histograms (Hinton 2015).

        Args:
            predictions: of the student.
            teacher: the teacher's predictions for the same frames.
            temperature: that logits are divided by.

        Returns:
            A scalar.
        """
        import torch
        from torch.nn import functional as F

        here, there = (torch.log_softmax(one[0].flatten(0, 1) / temperature, 1) for one in (predictions, teacher))
        return F.kl_div(here, there, reduction="batchmean", log_target=True) * temperature**2

    def answers(self, network: SteeringNetwork, predictions: Predictions) -> Predictions:
        """Values in the unit of the recording and their standard deviations, float32 [N, K] each."""
        return network.answers(predictions[0])

    def calibrate(self, network: SteeringNetwork, batches: Iterable[tuple[Arrays, Predictions]]) -> None:
        """Fit the trust in the image to the errors of the steering, and a factor of the deviations to the size of the errors."""
        import torch

        truths, predictions = zip(*batches, strict=True)
        wanted = torch.cat([torch.from_numpy(truth["values"]) for truth in truths])
        _, picture, known = (torch.cat(parts) for parts in zip(*predictions, strict=True))
        answers = {trust: network.answers(network.logits(trust * picture, known)) for trust in TRUSTS}
        off = {trust: value - wanted for trust, (value, _) in answers.items()}
        trust = min(TRUSTS, key=lambda trust: float(off[trust][:, 0].square().sum()))
        network.trust.fill_(trust)
        network.widening.mul_((off[trust] / answers[trust][1]).square().mean(0).sqrt().clamp(0.05, 20))

    # -- quality --------------------------------------------------------------------------------------------------
    def evaluator(self, scenes: StoredScenes, card: dict[str, Any]) -> SteeringEvaluator:
        from usecases.driving_perception.heads.steering.scores import SteeringEvaluator

        return SteeringEvaluator(card["targets"], card["usual"])

    def figures(self, evaluator: SteeringEvaluator, predict: Predict, scenes: StoredScenes, card: dict[str, Any]) -> list[dict[str, Any]]:
        from usecases.driving_perception.heads.steering.figures import along, by_previous_frames, worst_moments

        return [
            along(evaluator),
            *by_previous_frames(evaluator, predict, scenes, conditioning_counts(card).get("turn", 0)),
            worst_moments(evaluator, scenes),
        ]

    def attributions(self, network: RoadNetwork, scenes: StoredScenes, card: dict[str, Any]) -> dict[str, Any]:
        """Integrated gradients (Sundararajan 2017) of moments of steering left, straight and right.

        Args:
            network: in evaluation mode.
            scenes: the split.
            card: `assets/scene.json`.

        Returns:
            A block of kind gallery.
        """
        from usecases.driving_perception.heat import value_gallery

        rows = scenes.rows_with(self.name)
        driven = scenes.arrays["values"][:, 0]
        order = rows[np.argsort(driven[rows], kind="stable")].tolist()
        trust = float(cast("SteeringNetwork", network.heads[self.name]).trust)
        note = f"Trust in the image, fitted on validation: {trust:.0%}."
        lines = {row: f"driver {float(driven[row]):+.2f}" for row in order}
        meaning = "red increases steering to the right, blue to the left"
        return value_gallery(network, self, scenes, lines, "Evidence for the steering", meaning, note)

    # -- service --------------------------------------------------------------------------------------------------
    def answer(self, outputs: Arrays, picture: Image.Image, card: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
        """The steering and its standard deviation, and the same of the throttle where it was recorded.

        Args:
            outputs: of the graph, without a batch axis.
            picture: the image of the request.
            card: `assets/scene.json`.

        Returns:
            `{"steering", "steering_deviation"}`, `{"throttle", "throttle_deviation"}` with them, and reasons to doubt the steering.
        """
        answer: dict[str, float] = {}
        for target, value, deviation in zip(card["targets"], outputs["values"], outputs["deviations"], strict=True):
            answer |= {target: round(float(value), 4), f"{target}_deviation": round(float(deviation), 4)}
        deviation = outputs["deviations"][0]
        doubted = deviation > MAX_DEVIATION * card["spread"][0]
        return answer, [f"the deviation of the steering is large: ± {deviation:.2f}"] if doubted else []

    def blocks(self, answer: Mapping[str, Any], card: Mapping[str, Any]) -> list[AnswerBlock]:
        """A gauge of the steering, and of the throttle where it was recorded."""
        return [_gauge(name, answer[name], answer[f"{name}_deviation"]) for name in card["targets"]]

    def advice(self, outputs: Arrays, answer: dict[str, Any], picture: Image.Image, card: dict[str, Any]) -> dict[str, Any]:
        return {"steering": answer["steering"]}

    def draw(self, picture: Image.Image, answer: dict[str, Any], card: dict[str, Any]) -> Image.Image:
        """Draw a needle in the direction of the steering.

        Args:
            picture: RGB; it is changed in place.
            answer: to the request.
            card: `assets/scene.json`.

        Returns:
            The image.
        """
        width, height = picture.size
        foot, length = (width / 2, height * 0.98), height * 0.22
        angle = float(np.clip(answer["steering"], -1, 1)) * np.pi / 3
        tip = (foot[0] + length * np.sin(angle), foot[1] - length * np.cos(angle))
        ImageDraw.Draw(picture).line([foot, tip], fill=(255, 255, 255), width=max(2, height // 90))
        return picture


def _gauge(name: str, value: float, deviation: float) -> Gauge:
    limit = max(FULL_LOCK, abs(value))
    ends = ["left", "right"] if name == "steering" else []
    return Gauge(kind="gauge", title=name.capitalize(), value=value, deviation=deviation, low=-limit, high=limit, ends=ends)


def _yaw_rates(frame: Frame, picture: Image.Image, before: dict[Any, Any]) -> tuple[float, ...]:
    """The yaw rates of the preceding consecutive moments, the latest first, at most `MAX_YAW_RATES`.

    `before` holds for every camera, by recording and side, its last moment, the strip of its image, and its yaw rates until then.
    """
    if frame.moment is None:
        return ()
    camera, now = (frame.recording, frame.side), strip(picture)
    last, view, earlier = before.get(camera, (None, now, ()))
    turns = (yaw_between(view, now), *earlier)[:MAX_YAW_RATES] if last == frame.moment - 1 else ()
    before[camera] = (frame.moment, now, turns)
    return turns


def _range(values: np.ndarray) -> list[float]:
    """The least and the largest value, clipped to `OUTLIER_DEVIATIONS` from the mean."""
    usual, spread = float(np.nanmean(values)), max(float(np.nanstd(values)), MIN_SPREAD)
    low, high = (
        max(float(np.nanmin(values)), usual - OUTLIER_DEVIATIONS * spread),
        min(float(np.nanmax(values)), usual + OUTLIER_DEVIATIONS * spread),
    )
    return [round(min(low, usual - spread), 6), round(max(high, usual + spread), 6)]

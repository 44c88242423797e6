"""The LightningModule that trains every use case.

For the Trainer, all steps of a fit are one long epoch; epochs, validation and resuming are handled here. So a fit can
resume at any step, and the random numbers of a step depend on the seed, the step and the rank alone.
"""

from __future__ import annotations

import copy
import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from tasks.contract.errors import TrainingError
from tasks.contract.usecase import UseCase
from tasks.settings import Fit
from tasks.training import checkpoints
from tasks.training.batches import Batches
from tasks.training.optimization import build_optimizer, learning_rate_factor
from tasks.training.predicting import torch_predict

CHECKPOINT_SECONDS = float(os.environ.get("VERTICALS_CHECKPOINT_SECONDS", "60"))
REPORT_SECONDS = 0.25  # between two rows of progress
LOG_STEPS = 50  # between two losses in the TensorBoard log
WARM_STEPS = 5  # not counted in examples per second, since the first calls choose kernels


class Learner(pl.LightningModule):
    """Fits a network with the loss and score of a use case.

    Args:
        usecase: provides the loss and the score.
        network: the network to train.
        batches: the batches of the fit.
        data: folder of the prepared data, for validation.
        fit: settings of the fit.
        folder: for checkpoints.
        report: called with the phase and further fields of a row of progress.
    """

    def __init__(
        self, usecase: UseCase, network: nn.Module, batches: Batches, data: Path, fit: Fit, folder: Path, report: Callable[..., None]
    ) -> None:
        super().__init__()
        self.usecase, self.network, self.batches, self.data, self.fit, self.folder, self.report = (
            usecase,
            network,
            batches,
            data,
            fit,
            folder,
            report,
        )
        self.loss: Callable[[nn.Module, dict[str, Tensor]], Tensor] = usecase.loss
        self.averaged: AveragedModel | None = None
        self.step = 0  # batches so far
        self.history: list[dict[str, float]] = []
        self.best: tuple[float, int] = (float("-inf"), -1)  # score, epoch
        self.loss_sum: Tensor | float = 0.0
        self.seconds_before = 0.0
        self.training_seconds = 0.0
        self.examples_timed = 0
        self.started = time.monotonic()
        self.progress_at_start = 0.0
        self._resumed: dict[str, Any] | None = None

    def begin_average(self) -> None:
        """Start the moving average of the weights; call it after a technique has changed the network."""
        if self.fit.ema:
            self.averaged = AveragedModel(self.network, multi_avg_fn=self._average, use_buffers=True)
            self.averaged.requires_grad_(False)  # or the ranks would wait for its gradients

    # -- what the Trainer calls ---------------------------------------------------------------------------------------
    def configure_optimizers(self) -> torch.optim.Optimizer:
        optimizer = build_optimizer(self.network, self.fit)
        for group in optimizer.param_groups:
            group["peak"] = group["lr"] * group["scale"]
        return optimizer

    def on_train_start(self) -> None:
        self.started = self.marked = self.saved = self.reported = time.monotonic()
        self.progress_at_start = self.progress()
        if self._resumed is not None:
            self.trainer.optimizers[0].load_state_dict(self._resumed["optimizer"])
            if self._resumed["precision"]:
                self.trainer.precision_plugin.load_state_dict(self._resumed["precision"])
            self._resumed = None

    def on_train_batch_start(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        torch.manual_seed(hash((self.fit.seed, self.step, self.global_rank)) & 0x7FFF_FFFF_FFFF_FFFF)
        epoch = self.step // self.batches.steps_per_epoch
        factor = learning_rate_factor(self.fit, self.progress())
        for group in self.trainer.optimizers[0].param_groups:
            frozen = epoch < self.fit.frozen_epochs and not group["head"]
            group["lr"] = 0.0 if frozen else group["peak"] * factor

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        return self.loss(self.network, batch)

    def on_train_batch_end(self, outputs: Any, batch: dict[str, Tensor], batch_idx: int) -> None:
        loss = outputs["loss"].detach() * self.fit.accumulate  # Lightning has divided it
        self.step += 1
        self.loss_sum = self.loss_sum + loss
        if self.averaged is not None and self.step % self.fit.accumulate == 0:
            self.averaged.update_parameters(self.network)
        if batch_idx >= WARM_STEPS:
            self.examples_timed += self.batches.batch_size
            self.training_seconds += time.monotonic() - self.marked
        self.marked = time.monotonic()
        self._report(loss)
        if self.step % self.batches.steps_per_epoch == 0 or self.progress() >= 1:
            self._end_epoch()
        elif self._on_every_rank(time.monotonic() - self.saved > CHECKPOINT_SECONDS) and self.step % self.fit.accumulate == 0:
            self._save()
        self.marked = time.monotonic()

    # -- epochs -------------------------------------------------------------------------------------------------------
    def _end_epoch(self) -> None:
        """Score the validation split, save, and decide whether to continue. Rank 0 scores; the others wait for its decision."""
        epoch = -(-self.step // self.batches.steps_per_epoch)
        steps = self.step - (self.history[-1]["step"] if self.history else 0)
        stop = False
        if self.global_rank == 0:
            self.report("validating", force=True, **self.position())
            scores = self.usecase.score(self.predict(), self.data, "validation")
            row = {
                "epoch": epoch,
                "step": self.step,
                "train_loss": float(self.loss_sum) / steps,
                **scores,
                "learning_rate": self._learning_rate(),
            }
            self.history.append({name: round(value, 6) for name, value in row.items()})
            stop = self._judge(scores[self.usecase.monitor], epoch)
            self._log(row)
            self.report("training", force=True, **self.position(), **self._pace(), loss=row["train_loss"])
        self.loss_sum = 0.0
        if self._on_every_rank(stop) or self.progress() >= 1:
            self.trainer.should_stop = True
        self._save()

    def _judge(self, score: float, epoch: int) -> bool:
        """Save the best weights; returns whether to stop early."""
        if not self.fit.patience:
            return False
        if score > self.best[0]:
            self.best = (score, epoch)
            checkpoints.write(self.folder / "best.pt", self.kept().state_dict())
        return epoch - self.best[1] >= self.fit.patience

    def kept(self) -> nn.Module:
        """The network whose weights are validated and kept: the moving average if there is one."""
        return self.averaged.module if self.averaged is not None else self.network

    def predict(self, mixed: bool = True) -> Any:
        """The kept network as a function of arrays; `mixed` for the precision of the training, otherwise fp32."""
        precision = self.trainer.precision_plugin.forward_context if mixed else None
        return torch_predict(self.usecase, self.kept(), self.device, precision or _full_precision)

    def progress(self) -> float:
        """Progress of the fit in [0, 1]: the share of its steps, or of its budget of time if that is larger."""
        by_steps = self.step / self.batches.steps
        return max(by_steps, self._clock() / (60 * self.fit.max_minutes)) if self.fit.max_minutes else by_steps

    def seconds(self) -> float:
        """Wall time of the fit so far, summed over all attempts."""
        return self.seconds_before + time.monotonic() - self.started

    def _clock(self) -> float:
        """Wall time of the fit by the clock of rank 0, so that all ranks stop at the same step."""
        if self.trainer.world_size == 1:
            return self.seconds()
        return float(self.trainer.strategy.broadcast(self.seconds()))

    def _on_every_rank(self, decision: bool) -> bool:
        """The decision of rank 0, on every rank."""
        return decision if self.trainer.world_size == 1 else bool(self.trainer.strategy.broadcast(decision))

    def _average(self, averaged: Any, current: Any, count: Any) -> None:
        """Exponential moving average; its decay is small at first, so that the initial weights soon have no influence."""
        decay = min(self.fit.ema, (1 + int(count)) / (10 + int(count)))
        if averaged[0].is_floating_point():
            torch._foreach_lerp_(averaged, current, 1 - decay)  # pyright: ignore[reportPrivateImportUsage]
        else:
            torch._foreach_copy_(averaged, current)  # pyright: ignore[reportPrivateImportUsage]

    # -- progress -----------------------------------------------------------------------------------------------------
    def position(self) -> dict[str, Any]:
        """Epoch, step and last score, for a row of progress."""
        per_epoch = self.batches.steps_per_epoch
        return {
            "epoch": min((self.step - 1) // per_epoch + 1, self.fit.epochs),
            "epochs": self.fit.epochs,
            "step": (self.step - 1) % per_epoch + 1,
            "steps": per_epoch,
            "monitor": self.usecase.monitor,
            "score": self.history[-1][self.usecase.monitor] if self.history else None,
        }

    def _report(self, loss: Tensor) -> None:
        """Report and log the loss. On a GPU not at every step, since reading the loss waits for the device."""
        if self.device.type != "cpu" and time.monotonic() - self.reported < REPORT_SECONDS:
            return
        value = float(loss)
        if value != value or value in (float("inf"), float("-inf")):
            raise TrainingError(
                f"The loss became {value} at step {self.step} (epoch {self.position()['epoch']}). "
                f"Try a smaller --fit.learning_rate (it was {self.fit.learning_rate:g}), a gradient clip, or --fit.precision fp32."
            )
        if self.step % LOG_STEPS == 0 and self.logger and self.global_rank == 0:
            self.logger.log_metrics({"loss": value, "learning_rate": self._learning_rate()}, step=self.step)
        if time.monotonic() - self.reported < REPORT_SECONDS:
            return
        self.reported = time.monotonic()
        self.report("training", **self.position(), **self._pace(), loss=value)

    def _pace(self) -> dict[str, float]:
        progress = min(self.progress(), 1.0)
        left = (time.monotonic() - self.started) * (1 - progress) / max(progress - self.progress_at_start, 1e-9)
        return {"examples_per_second": self.speed(), "seconds_left": left, "learning_rate": self._learning_rate()}

    def speed(self) -> float:
        """Training examples per second over all ranks, without validation."""
        return self.examples_timed / self.training_seconds if self.training_seconds else 0.0

    def _learning_rate(self) -> float:
        return max(group["lr"] for group in self.trainer.optimizers[0].param_groups)

    def _log(self, row: dict[str, float]) -> None:
        if self.logger:
            self.logger.log_metrics({f"epoch/{name}": value for name, value in row.items()}, step=self.step)
            self.logger.save()

    # -- resuming -----------------------------------------------------------------------------------------------------
    def _save(self) -> None:
        self.saved = time.monotonic()
        if self.global_rank:
            return
        checkpoints.save(
            self.folder,
            self.step,
            {
                "step": self.step,
                "network": self.network.state_dict(),
                "averaged": None if self.averaged is None else self.averaged.state_dict(),
                "optimizer": self.trainer.optimizers[0].state_dict(),
                "precision": self.trainer.precision_plugin.state_dict(),
                "history": self.history,
                "best": self.best,
                "loss_sum": float(self.loss_sum),
                "seconds": self.seconds(),
            },
        )

    def resume(self, state: dict[str, Any]) -> None:
        """Continue an earlier attempt. The state of the optimiser is loaded later, once the Trainer has created it."""
        self.network.load_state_dict(state["network"])
        if self.averaged is not None:
            self.averaged.load_state_dict(state["averaged"])
        self.step, self.history, self.best = state["step"], state["history"], tuple(state["best"])
        self.loss_sum, self.seconds_before = state["loss_sum"], state["seconds"]
        self.batches.first_step = self.step
        self._resumed = state

    def is_finished(self) -> bool:
        """Whether an earlier attempt reached the end of the fit and only its result is missing."""
        out_of_time = bool(self.fit.max_minutes) and self.seconds_before >= 60 * self.fit.max_minutes
        stopped_early = bool(self.fit.patience and self.history) and self.history[-1]["epoch"] - self.best[1] >= self.fit.patience
        return self.step >= self.batches.steps or out_of_time or stopped_early

    def final(self) -> nn.Module:
        """A copy of the network with the weights to keep, in fp32 on the CPU."""
        network = copy.deepcopy(self.kept())
        if self.fit.patience:
            if self.best[1] < 0:
                raise TrainingError(not_a_number(self.usecase.monitor, self.fit))
            network.load_state_dict(torch.load(self.folder / "best.pt", map_location="cpu", weights_only=True))
        return network.float().cpu().eval()


def not_a_number(monitor: str, fit: Fit) -> str:
    """The message of a fit whose monitored score is not a number."""
    return (
        f"After training, the {monitor} on validation is not a number. The usual cause is a learning rate that is too high: "
        f"try a smaller --fit.learning_rate (it was {fit.learning_rate:g}) or a smaller --fit.gradient_clip (it was {fit.gradient_clip:g})."
    )


def _full_precision() -> AbstractContextManager[None]:
    return torch.autocast("cpu", enabled=False)  # pyright: ignore[reportReturnType]

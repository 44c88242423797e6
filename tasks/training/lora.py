"""Fine-tuning a large network by few numbers (LoRA, Hu 2022)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from tasks.contract.errors import SettingError
from tasks.training.technique import Technique

if TYPE_CHECKING:
    from torch import nn

    from tasks.training.learner import Learner

SCALE = 2  # of the change, in terms of its rank: what makes one learning rate do for all ranks


class LoRA(Technique):
    """The linear layers of the backbone stay as they are but for a product of two thin matrices; the head learns as ever.

    The products are added to the weights in the end: what is kept has the shape it always had, and costs nothing in service.
    """

    rank: int = Field(ge=1, description="of the changes")

    def before(self, learner: Learner) -> None:
        adapt(learner.network, self.rank)

    def after(self, network: nn.Module) -> None:
        merge(network)


def adapt(network: nn.Module, rank: int) -> None:
    """Freeze all but the last of `layers()`, and let each linear layer before it learn a change of low rank.

    Raises:
        SettingError: there is no linear layer before the head.
    """
    from peft.tuners.lora import LoraConfig, LoraModel
    from torch import nn

    head = list(network.layers())[-1]  # pyright: ignore[reportCallIssue, reportArgumentType]
    in_head = set(head.modules())
    names = [name for name, module in network.named_modules() if isinstance(module, nn.Linear) and module not in in_head]
    if not names:
        raise SettingError(f"--fit.lora {rank}: this network has no linear layers before its head. Leave it 0, or choose another network.")
    LoraModel(network, LoraConfig(r=rank, lora_alpha=SCALE * rank, target_modules=names), "default")
    for parameter in head.parameters():
        parameter.requires_grad_(True)


def merge(network: nn.Module) -> None:
    """Add the changes to the weights, and take the adapters out."""
    from peft.tuners.lora import LoraLayer
    from torch import nn

    for name, module in list(network.named_modules()):
        if isinstance(module, LoraLayer):
            module.merge()
            base = module.get_base_layer()
            assert isinstance(base, nn.Module)
            network.set_submodule(name, base)

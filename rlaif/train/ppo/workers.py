"""The processes that train together, begun by `accelerate launch`; usually there is one.

Every process holds the whole model. Work is dealt out in groups, what is found is gathered by all,
and the sums of gradients are added up: each process then takes the same step. What comes out does
not depend on how many there are, but for the order in which sums round.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")
R = TypeVar("R")


class Workers:
    """This process among those that train together.

    Args:
        use_cpu: Whether to leave a GPU alone.
    """

    def __init__(self, *, use_cpu: bool = False) -> None:
        from accelerate import PartialState

        self._state = PartialState(cpu=use_cpu)
        self.count = int(self._state.num_processes)
        self.rank = int(self._state.process_index)
        found = self._state.device
        # Apple's GPUs have no float64, which sampling sums up in
        self.device = "cpu" if use_cpu or found.type == "mps" else found

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and asks for rewards."""
        return self.rank == 0

    def share(self, work: Sequence[T], do: Callable[[T], R]) -> list[R]:
        """What `do` makes of each piece of work, in order; each process does its part of it."""
        mine = [do(piece) for piece in work[self.rank :: self.count]]
        if self.count == 1:
            return mine
        found = self.everyones(mine)
        return [found[place % self.count][place // self.count] for place in range(len(work))]

    def from_main(self, do: Callable[[], R]) -> R:
        """What `do` returns in the main process, or what it raises there, in every process."""
        if self.count == 1:
            return do()
        made: list[Any] = [None, None]
        if self.is_main:
            try:
                made[0] = do()
            except Exception as error:
                made[1] = error
        import torch

        torch.distributed.broadcast_object_list(made, 0)
        if made[1] is not None:
            raise made[1]
        result: R = made[0]
        return result

    def any(self, flag: bool) -> bool:
        """Whether `flag` is set in any process."""
        return any(self.everyones(flag))

    def add_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Replace each gradient by its sum over the processes."""
        if self.count == 1:
            return
        import torch

        for weights in parameters:
            if weights.grad is None:
                weights.grad = torch.zeros_like(weights)
            torch.distributed.all_reduce(weights.grad)

    def agree(self, tensors: Iterable[Tensor]) -> None:
        """Give every process the main one's values."""
        if self.count > 1:
            import torch

            for tensor in tensors:
                torch.distributed.broadcast(tensor.detach(), 0)

    def everyones(self, mine: R) -> list[R]:
        """What each process gives, by rank."""
        if self.count == 1:
            return [mine]
        import torch

        found: list[Any] = [None] * self.count
        torch.distributed.all_gather_object(found, mine)
        return found

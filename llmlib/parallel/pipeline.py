"""Pipeline parallelism: each process holds a stage, a part of the layers, and hands activations on to the next.

An order of actions (`schedules`) says what each stage does, one action after the other; `execute` does it. Whatever the
order, gradients are those of one process: the same sums over micro-batches. Each stage notes when it worked, so that
what is measured can be laid over what was predicted.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from llmlib.model import Transformer
from llmlib.parallel.pieces import Piece
from llmlib.parallel.schedules import Order, Span, Timeline
from llmlib.parallel.sharding import gathered_weights
from llmlib.parallel.stages import PieceWork, SleepWork, Work
from llmlib.parallel.tensor import Group


class Mail:
    """Hands tensors to neighbours without waiting for them to be taken, and takes what they handed over.

    Streams and gradients have groups of their own: with nccl, what two processes send each other in one group has to
    come in the order in which it is expected.
    """

    def __init__(self, there: Group | None, back: Group | None, chunks: int) -> None:
        self.groups, self.chunks, self.rank = {"F": there, "B": back}, chunks, dist.get_rank(there)
        self.sent: list[tuple[dist.Work, Tensor]] = []
        self.own: dict[tuple[str, int, int], Tensor] = {}  # between chunks of a lone stage

    def send(self, x: Tensor, to: int, kind: str, micro_batch: int, chunk: int) -> None:
        if to == self.rank:
            self.own[kind, micro_batch, chunk] = x
            return
        x, group = x.detach().contiguous(), self.groups[kind]
        work = dist.isend(x, group=group, tag=micro_batch * self.chunks + chunk, group_dst=to)
        self.sent = [pair for pair in self.sent if not pair[0].is_completed()] + [(work, x)]

    def receive(self, shape: Sequence[int], like: Tensor, by: int, kind: str, micro_batch: int, chunk: int) -> Tensor:
        if by == self.rank:
            return self.own.pop((kind, micro_batch, chunk)).detach()
        x = like.new_empty(shape)
        dist.recv(x, group=self.groups[kind], tag=micro_batch * self.chunks + chunk, group_src=by)
        return x

    def close(self) -> None:
        """Waits until everything has been taken."""
        for work, _ in self.sent:
            work.wait()


def way_back(group: Group | None) -> Group:
    """A group of its own, of the same processes, for what goes back: see `Mail`."""
    return dist.new_group(dist.get_process_group_ranks(group or dist.group.WORLD), use_local_synchronization=True)


def clock(device: torch.device) -> float:
    """`time.perf_counter` when the device has done all that it was told: a GPU is told, and works on its own."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def check_order(order: Order, stages: int, chunks: int | None = None) -> int:
    """The chunks of an order; raises ValueError if it is one of another number of stages or chunks."""
    needed = 1 + max(action.chunk for actions in order for action in actions)
    if len(order) != stages or needed != (chunks or needed):
        raise ValueError(
            f"The order has {len(order)} stages of {needed} chunks, and there are {stages} processes that hold "
            f"{chunks or needed} each; make the order for as many."
        )
    return needed


def common_start(group: Group | None, like: Tensor) -> float:
    """Waits until all processes are here, and gives that moment by this process' `time.perf_counter`.

    Processes of one machine read one clock, and agree on the moment; others take the one at which they were let go.
    """
    moment = like.new_tensor([clock(like.device)], dtype=torch.float64)
    dist.all_reduce(moment, dist.ReduceOp.MAX, group=group)
    one_machine = os.environ.get("LOCAL_WORLD_SIZE") == os.environ.get("WORLD_SIZE")
    return moment.item() if one_machine else clock(like.device)


def execute(
    order: Order, works: Sequence[Work], like: Tensor, group: Group | None = None, back: Group | None = None
) -> tuple[list[Span], float]:
    """Does this process' part of an order, and tells when, in seconds since all began together.

    And how many micro-batches it kept activations of at most, a chunk of v counting 1/v.

    `works` are this stage's chunks; `like` has the type and device of what is handed over. A span is the time of the
    work alone: waiting for what it needs is left out, and so is handing on, which goes on beside the next work.

    Raises ValueError for an order of another number of stages or chunks.
    """
    stage, stages = dist.get_rank(group), dist.get_world_size(group)
    chunks = check_order(order, stages, len(works))
    split = any(action.kind == "W" for action in order[stage])
    mail, spans, most_kept = Mail(group, back or group, chunks), [], 0
    origin = common_start(group, like)
    for action in order[stage]:
        kind, i, c = action
        work, shape = works[c], works[c].shape(i)
        incoming = outgoing = None
        if kind == "F" and not work.first:
            incoming = mail.receive(shape, like, (stage - 1) % stages, "F", i, c)
        elif kind == "B" and not work.last:
            incoming = mail.receive(shape, like, (stage + 1) % stages, "B", i, c)
        start = clock(like.device) - origin
        if kind == "F":
            outgoing = work.forward(i, incoming)
        elif kind == "B":
            outgoing = work.backward_input(i, incoming) if split else work.backward(i, incoming)
        else:
            work.backward_weights(i)
        most_kept = max(most_kept, sum(len(work.kept) for work in works))
        spans.append(Span(stage, action, start, clock(like.device) - origin))
        if kind == "F" and not work.last:
            mail.send(outgoing, (stage + 1) % stages, "F", i, c + (stage == stages - 1))
        elif kind == "B" and not work.first:
            mail.send(outgoing, (stage - 1) % stages, "B", i, c - (stage == 0))
    mail.close()
    return spans, most_kept / chunks


class Pipeline:
    """A model on the stages of a pipeline, for training by any order of `schedules`.

    On each of 4 processes, `Pipeline(model, one_f_one_b(stages=4, micro_batches=8))`; then, for each batch, its
    `add_gradients`, and a step of an optimiser of `pipeline.pieces.parameters()`.

    The model may be cut by matrices before (`shard_transformer`, over another group).

    Raises ValueError for more stages times chunks than layers.
    """

    def __init__(self, model: Transformer, order: Order, group: Group | None = None) -> None:
        self.order, self.group = order, group
        self.stage, self.stages = dist.get_rank(group), dist.get_world_size(group)
        self.micro_batches = 1 + max(action.micro_batch for action in order[0])
        chunks = check_order(order, self.stages)
        self.pieces = torch.nn.ModuleList(
            Piece(model, chunk * self.stages + self.stage, chunks * self.stages) for chunk in range(chunks)
        )
        self.tied = model.config.tied and self.stages > 1
        self.back = way_back(group)
        self.spans: list[Span] = []  # of the last step
        self.most_kept = 0.0  # micro-batches of a stage whose activations were kept at once in it

    def add_gradients(self, inputs: Tensor, targets: Tensor) -> float:
        """Leaves the gradient of the mean loss of a batch, (B, T) twice, and returns that loss, on every stage.

        Raises ValueError for fewer rows than micro-batches.
        """
        if len(inputs) < self.micro_batches:
            raise ValueError(
                f"A batch of {len(inputs)} rows cannot be cut into {self.micro_batches} micro-batches, for one has at "
                "least a row; take fewer micro-batches, or a larger batch."
            )
        parts = [x.tensor_split(self.micro_batches) for x in (inputs, targets)]
        tokens = int((targets != -100).sum())
        works = [PieceWork(piece, *parts, tokens) for piece in self.pieces]
        like = next(self.pieces.parameters())
        self.spans, self.most_kept = execute(self.order, works, like, self.group, self.back)
        if self.tied:
            self._sum_tied()
        loss = torch.tensor(sum(work.loss for work in works), dtype=torch.float64, device=like.device)
        dist.all_reduce(loss, group=self.group)
        return loss.item()

    def _sum_tied(self) -> None:
        """The embedding stands on the first stage and, as output layer, on the last: both take the sum of the two."""
        if self.stage not in (0, self.stages - 1):
            return
        weight = self.pieces[0].embedding.weight if self.stage == 0 else self.pieces[-1].head.weight
        other, peer = torch.empty_like(weight), self.stages - 1 - self.stage
        both = [(dist.isend, weight.grad), (dist.irecv, other)]  # as one, for with nccl neither may wait for the other
        for work in dist.batch_isend_irecv([dist.P2POp(*op, group=self.group, group_peer=peer) for op in both]):
            work.wait()
        weight.grad = weight.grad + other

    def own_gradients(self) -> dict[str, Tensor]:
        """The gradients of this stage's parameters, by their names in the whole model; whole, if they are cut."""
        named: dict[str, Tensor] = {}
        for piece in self.pieces:
            named |= gathered_weights(piece, lambda parameter: parameter.grad)
        if self.pieces[0].config.tied:
            named.pop("head.weight", None)  # the whole model knows it by its other name
        return named


def gathered(values: object, group: Group | None = None) -> list:
    """What each process has, on every process, in order of rank: small things, such as spans."""
    result: list = [None] * dist.get_world_size(group)
    dist.all_gather_object(result, values, group=group)
    return result


def measured_timeline(spans: list[Span], most_kept: float, group: Group | None = None) -> Timeline:
    """Every stage's spans together, in seconds since all began: what `schedules.timeline` predicts."""
    both = gathered((spans, most_kept), group)
    return Timeline([stage[0] for stage in both], [stage[1] for stage in both])


def slept_timeline(
    order: Order, forward: float, backward: float, weight: float, group: Group | None = None
) -> Timeline:
    """An order done by stages that sleep: the seconds that a whole stage takes on a micro-batch, as for `timeline`."""
    stage, stages, times = dist.get_rank(group), dist.get_world_size(group), (forward, backward, weight)
    chunks = check_order(order, stages)
    works = [
        SleepWork((stage, c) == (0, 0), (stage, c) == (stages - 1, chunks - 1), [t / chunks for t in times])
        for c in range(chunks)
    ]
    return measured_timeline(*execute(order, works, torch.zeros(1), group), group)

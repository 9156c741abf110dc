"""One query for each box, at the least total cost, inside a compiled network (keras.ops)."""

from collections.abc import Mapping
from typing import Any

from keras import ops

_FAR = 1e30  # above any sum of costs


def with_a_place(batch: Mapping[str, Any]) -> Mapping[str, Any]:
    """A training batch with room for at least one box, so that nothing has to reckon with no room at all."""
    if batch["box_mask"].shape[1]:
        return batch
    names = ("boxes", "box_labels", "box_mask")
    return {
        **batch,
        **{name: ops.pad(batch[name], [[0, 0], [0, 1], [0, 0]][: len(batch[name].shape)]) for name in names},
    }


def assign(costs: Any, real: Any) -> Any:
    """The query of each box, int32 [B, N], no query twice and the sum of the costs least; -1 for padding.

    `costs` float32 [B, N, Q] of each pair; `real` bool [B, N], false for padding. Where an image has more boxes than
    queries, those left over get -1. Jonker and Volgenant's shortest augmenting paths as in Crouse 2016
    (doi:10.1109/TAES.2016.140952), all images at once: as many steps as the busiest image needs.
    """
    costs = ops.stop_gradient(ops.cast(costs, "float32"))
    unmatched = ops.cast(real, "int32") * 0 - 1
    if not costs.shape[1]:
        return unmatched
    free = ops.cast(costs[:, 0] * 0, "int32") - 1
    state = (ops.zeros_like(costs[:, :, 0]), ops.zeros_like(costs[:, 0]), free, unmatched)
    return ops.fori_loop(0, costs.shape[1], lambda box, state: _place(box, costs, real, state), state)[3]


def _place(box: Any, costs: Any, real: Any, state: Any) -> Any:
    """One more box, placed: the shortest path from it to a free query moves the boxes on it to their next query."""
    of_box, of_query, box_of, query_of = state  # potentials u [B, N] and v [B, Q]; who has whom, -1 for nobody
    start = query_of[:, 0] * 0 + box
    active = ops.take_along_axis(real, start[:, None], axis=1)[:, 0]
    far = ops.zeros_like(of_query) + _FAR

    def search(going: Any, at: Any, length: Any, lengths: Any, before: Any, scanned: Any, end: Any) -> Any:
        reduced = _row(costs, at) - _item(of_box, at)[:, None] - of_query + length[:, None]
        better = (reduced < lengths) & ~scanned & going[:, None]
        lengths, before = ops.where(better, reduced, lengths), ops.where(better, at[:, None], before)
        query = ops.cast(ops.argmin(ops.where(scanned, _FAR, lengths), axis=1), "int32")
        scanned = scanned | (_is(query, scanned) & going[:, None])
        length = ops.where(going, _item(lengths, query), length)
        owner = _item(box_of, query)
        end = ops.where(going & (owner < 0), query, end)
        at = ops.where(going & (owner >= 0), owner, at)
        going = going & (owner >= 0) & ~ops.all(scanned, axis=1)
        return going, at, length, lengths, before, scanned, end

    first = (active, start, far[:, 0] * 0, far, box_of * 0 - 1, ops.zeros_like(far, "bool"), start * 0 - 1)
    _, _, length, lengths, before, scanned, end = ops.while_loop(lambda going, *_: ops.any(going), search, first)

    placed = end >= 0
    slack = ops.where(scanned & placed[:, None], length[:, None] - lengths, 0.0)
    of_query = of_query - slack
    moved = ops.where(query_of >= 0, ops.take_along_axis(slack, ops.maximum(query_of, 0), axis=1), 0.0)
    of_box = of_box + moved + ops.where(_is(start, of_box) & placed[:, None], length[:, None], 0.0)

    def swap(going: Any, query: Any, box_of: Any, query_of: Any) -> Any:
        taker = _item(before, query)
        left = _item(query_of, taker)
        box_of = ops.where(_is(query, box_of) & going[:, None], taker[:, None], box_of)
        query_of = ops.where(_is(taker, query_of) & going[:, None], query[:, None], query_of)
        return going & (taker != start), ops.where(going, left, query), box_of, query_of

    swaps = (placed, end, box_of, query_of)
    _, _, box_of, query_of = ops.while_loop(lambda going, *_: ops.any(going), swap, swaps)
    return of_box, of_query, box_of, query_of


def _row(costs: Any, box: Any) -> Any:
    """costs[b, box[b]], [B, Q]."""
    return ops.take_along_axis(costs, ops.maximum(box, 0)[:, None, None], axis=1)[:, 0]


def _item(values: Any, place: Any) -> Any:
    """values[b, place[b]], [B]."""
    return ops.take_along_axis(values, ops.maximum(place, 0)[:, None], axis=1)[:, 0]


def _is(place: Any, like: Any) -> Any:
    """Where in each row the place is, bool [B, columns of `like`]."""
    return ops.arange(like.shape[1], dtype="int32")[None] == place[:, None]

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scoring.bank import AdapterBank, SlotPool
from scoring.errors import IncompatibleArtifactError

SHAPES = {"first": (3, 4), "second": (4, 2)}
CPU = torch.device("cpu")


def make_pairs(seed, rank, modules):
    generator = torch.Generator().manual_seed(seed)
    return {
        module: (
            torch.randn(rank, SHAPES[module][0], generator=generator),
            torch.randn(SHAPES[module][1], rank, generator=generator),
        )
        for module in modules
    }


@given(st.lists(st.one_of(st.none(), st.integers(0, 20)), max_size=60))
def test_slots_are_never_shared_and_the_smallest_free_one_goes_first(steps):
    pool, taken = SlotPool(), []
    for step in steps:
        if step is None or not taken:
            slot = pool.take()
            assert slot == min(set(range(1, len(taken) + 2)) - set(taken))
            taken.append(slot)
        else:
            pool.give_back(taken.pop(step % len(taken)))
    assert pool.num_slots > max(taken, default=0)


def test_a_slot_cannot_be_given_back_twice():
    pool = SlotPool()
    slot = pool.take()
    pool.give_back(slot)
    with pytest.raises(KeyError):
        pool.give_back(slot)


adapters = st.tuples(
    st.integers(0, 1000),
    st.integers(1, 5),
    st.sets(st.sampled_from(sorted(SHAPES)), min_size=1),
)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.one_of(adapters, st.integers(0, 20)), max_size=25))
def test_each_slot_holds_exactly_its_own_adapter(steps):
    bank, held = AdapterBank(SHAPES, device=CPU), {}
    for step in steps:
        if isinstance(step, tuple):
            pairs = make_pairs(*step)
            held[bank.add(pairs, scale=0.5)] = pairs
        elif held:
            slot = sorted(held)[step % len(held)]
            bank.remove(slot)
            del held[slot]
    for module in SHAPES:
        stacked, views = bank.stacked(module), bank.views(module)
        assert views.keys() == {slot for slot, pairs in held.items() if module in pairs}
        assert (stacked is None) == (not views)
        if stacked is None:
            continue
        updates = torch.bmm(stacked[1], stacked[0])
        assert len(updates) > max(held)
        for slot in range(len(updates)):
            pairs = held.get(slot, {})
            if module not in pairs:
                assert not updates[slot].any()
                continue
            a, b = pairs[module]
            torch.testing.assert_close(updates[slot], 0.5 * b @ a)
            assert views[slot][0].shape == (SHAPES[module][0], len(a))
            # Into the stack itself: a view of what stood there before it grew would keep that in memory.
            for view, stack in zip(views[slot], stacked, strict=True):
                assert view.untyped_storage().data_ptr() == stack.untyped_storage().data_ptr()
            torch.testing.assert_close(views[slot][0] @ views[slot][1], 0.5 * (b @ a).T)


def test_an_adapter_of_nothing_takes_no_slot():
    bank = AdapterBank(SHAPES, device=CPU)
    assert bank.add({}, scale=1.0) == 0
    bank.remove(0)
    assert bank.add(make_pairs(0, 2, ["first"]), scale=1.0) == 1


@pytest.mark.parametrize(
    ("pairs", "match"),
    [
        ({"third": (torch.zeros(2, 3), torch.zeros(4, 2))}, "no linear layer third"),
        ({"first": (torch.zeros(2, 5), torch.zeros(4, 2))}, "maps 5 to 4"),
        ({"first": (torch.zeros(2, 3), torch.zeros(5, 2))}, "maps 3 to 5"),
    ],
)
def test_a_refused_adapter_changes_nothing(pairs, match):
    bank = AdapterBank(SHAPES, device=CPU)
    with pytest.raises(IncompatibleArtifactError, match=match):
        bank.add(make_pairs(0, 2, ["second"]) | pairs, scale=1.0)
    assert not bank.views("second")
    assert bank.add(make_pairs(0, 2, ["first"]), scale=1.0) == 1

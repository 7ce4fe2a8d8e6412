import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scoring.bank import AdapterBank, Site, SlotPool
from scoring.errors import IncompatibleArtifactError

#: path of a layer -> (in, out); "second" and "third" share a site.
SHAPES = {"first": (3, 4), "second": (4, 2), "third": (4, 5)}
SITES = {
    "first": Site(3, {"first": 4}),
    "wide": Site(4, {"second": 2, "third": 5}),
}
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
    bank, held = AdapterBank(SITES, device=CPU), {}
    for step in steps:
        if isinstance(step, tuple):
            pairs = make_pairs(*step)
            held[bank.add(pairs, scale=0.5)] = pairs
        elif held:
            slot = sorted(held)[step % len(held)]
            bank.remove(slot)
            del held[slot]
    for name, site in SITES.items():
        stacked, views = bank.stacked(name), bank.views(name)
        assert views.keys() == {slot for slot, pairs in held.items() if pairs.keys() & site.widths.keys()}
        assert (stacked is None) == (not views)
        if stacked is None:
            continue
        updates = torch.bmm(stacked[1].transpose(1, 2), stacked[0])
        assert len(updates) > max(held)
        for slot in range(len(updates)):
            expected = expected_update(site, held.get(slot, {}))
            torch.testing.assert_close(updates[slot], expected)
            if slot not in views:
                continue
            # Into the stack itself: a view of what stood there before it grew would keep that in memory.
            view = views[slot]
            for part, stack in zip(view, stacked, strict=True):
                assert np.shares_memory(part, stack.numpy())
            torch.testing.assert_close(torch.from_numpy((view.a @ view.b).T), expected)
            ranks = sum(len(pairs[0]) for path, pairs in held[slot].items() if path in site.widths)
            assert view.a.shape == (site.num_in, ranks)


def test_layers_of_one_site_may_have_unequal_ranks():
    site = Site(4, dict.fromkeys("qkv", 5))
    bank = AdapterBank({"qkv": site}, device=CPU)
    pairs = {path: (torch.randn(rank, 4), torch.randn(5, rank)) for path, rank in (("v", 3), ("q", 1))}
    slot = bank.add(pairs, scale=0.5)
    view = bank.views("qkv")[slot]
    assert view.a.shape == (4, 4)
    torch.testing.assert_close(torch.from_numpy((view.a @ view.b).T), expected_update(site, pairs))


def expected_update(site, pairs):
    """The site's B A from the pairs themselves; zero for layers without one [out, in]."""
    parts = [
        0.5 * pairs[path][1] @ pairs[path][0] if path in pairs else torch.zeros(width, site.num_in)
        for path, width in site.widths.items()
    ]
    return torch.cat(parts)


def test_an_adapter_of_nothing_takes_no_slot():
    bank = AdapterBank(SITES, device=CPU)
    assert bank.add({}, scale=1.0) == 0
    bank.remove(0)
    assert bank.add(make_pairs(0, 2, ["first"]), scale=1.0) == 1


@pytest.mark.parametrize(
    ("pairs", "match"),
    [
        ({"fourth": (torch.zeros(2, 3), torch.zeros(4, 2))}, "no linear layer fourth"),
        ({"first": (torch.zeros(2, 5), torch.zeros(4, 2))}, "maps 5 to 4"),
        ({"first": (torch.zeros(2, 3), torch.zeros(5, 2))}, "maps 3 to 5"),
    ],
)
def test_a_refused_adapter_changes_nothing(pairs, match):
    bank = AdapterBank(SITES, device=CPU)
    with pytest.raises(IncompatibleArtifactError, match=match):
        bank.add(make_pairs(0, 2, ["second"]) | pairs, scale=1.0)
    assert not bank.views("wide")
    assert bank.add(make_pairs(0, 2, ["first"]), scale=1.0) == 1

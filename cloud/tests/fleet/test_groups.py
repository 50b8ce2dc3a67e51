import numpy as np
import pytest

from cloud.fleet.groups import Groups, aggregate
from cloud.model.records import Site


def groups(*memberships: str) -> Groups:
    return Groups.of(
        Site(slot=slot, site=f"s{slot}", groups=tuple(names.split()), created_ms=0)
        for slot, names in enumerate(memberships)
    )


def test_a_site_is_in_several_groups_and_nested_ones_stand_below_each_other() -> None:
    known = groups("all area f1", "all area f2", "all area", "all", "other f1")
    assert known.slots("f1").tolist() == [0, 4]
    assert known.slots("nobody").tolist() == []
    names, parents, node = known.nesting("all", ["f1", "area", "f2", "nobody"])
    assert (names, parents, node.tolist()) == (["all", "area", "f1", "f2"], [-1, 0, 1, 1], [2, 3, 1, 0])


def test_of_two_groups_with_the_same_sites_the_one_said_to_be_inside_is_below() -> None:
    slots = dict.fromkeys(("all", "a", "b"), np.arange(2))
    assert Groups(slots).nesting("all", ["a", "b"])[0] == ["all", "a", "b"]
    names, parents, node = Groups(slots, {"a": "b", "b": "all"}).nesting("all", ["a", "b"])
    assert (names, parents, node.tolist()) == (["all", "b", "a"], [-1, 0, 1], [2, 2])


def test_groups_that_overlap_otherwise_are_refused() -> None:
    with pytest.raises(ValueError, match=r"'b' and 'a' overlap"):
        groups("all a", "all a b", "all b").nesting("all", ["a", "b"])


def test_sums_and_percentiles_leave_out_what_is_not_known() -> None:
    column = np.array([1.0, np.nan, 3.0, 100.0])
    found = aggregate(column, np.array([0, 1, 2]), [50])
    assert (found.sites, found.known, found.total, found.percentiles) == (3, 2, 4.0, (2.0,))
    assert aggregate(np.full(2, np.nan)).known == 0

"""Joining points into transactions."""

from itertools import combinations, pairwise

from hypothesis import given
from hypothesis import strategies as st

from edge_agent.drivers.sunspec.definitions import PointDef
from edge_agent.drivers.sunspec.layout import Field
from edge_agent.drivers.sunspec.plan import MAX_READ, Block, plan_reads


def a_field(model_id: int, address: int, size: int) -> Field:
    return Field(model_id=model_id, path=f"P{address}", address=address, point=PointDef("P", "string", size))


@st.composite
def maps(draw: st.DrawFn, longest: int = 12) -> list[Field]:
    """Fields that do not overlap, in models that follow each other."""
    fields, address, model_id = [], 40000, 1
    for _ in range(draw(st.integers(1, longest))):
        address += draw(st.integers(0, 90))
        size = draw(st.integers(1, 16))
        fields.append(a_field(model_id, address, size))
        address += size
        model_id += draw(st.integers(0, 1))
    return draw(st.permutations(fields))


def sound(blocks: tuple[Block, ...], fields: list[Field]) -> bool:
    held = [field for block in blocks for field in block.fields]
    return (
        sorted(map(id, held)) == sorted(map(id, fields))
        and all(block.count <= MAX_READ for block in blocks)
        and all(b.address <= f.address and f.end <= b.address + b.count for b in blocks for f in b.fields)
    )


def fewest(fields: list[Field]) -> int:
    """By trying every way to cut the fields into runs."""
    ordered = sorted(fields, key=lambda field: field.address)
    for cuts in range(len(ordered)):
        for chosen in combinations(range(1, len(ordered)), cuts):
            runs = [ordered[a:b] for a, b in pairwise([0, *chosen, len(ordered)])]
            if all(run[-1].end - run[0].address <= MAX_READ for run in runs):
                return len(runs)
    raise AssertionError("a field of its own is always a run")


@given(maps(longest=8))
def test_a_plan_holds_every_point_whole_in_the_fewest_transactions(fields: list[Field]) -> None:
    blocks = plan_reads(fields)
    assert sound(blocks, fields)
    assert len(blocks) == fewest(fields)


@given(maps())
def test_a_plan_can_keep_to_one_model_a_transaction(fields: list[Field]) -> None:
    blocks = plan_reads(fields, across_models=False)
    assert sound(blocks, fields)
    assert all(len({field.model_id for field in block.fields}) == 1 for block in blocks)


def test_nothing_to_read_is_no_transaction() -> None:
    assert plan_reads([]) == ()

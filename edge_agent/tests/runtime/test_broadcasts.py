"""What a group was told lately, as control keeps it."""

from edge_agent.model.broadcast import Broadcast, Price, Regulation
from edge_agent.model.values import Quality
from edge_agent.runtime.broadcasts import Broadcasts


def price(sequence: int, ticks: int, *, group: str = "north", ends_s: float = 100.0) -> Broadcast:
    body = Price(ticks=ticks, step_share=0.0)
    return Broadcast(group=group, sequence=sequence, heard_s=10.0, ends_s=ends_s, body=body)


def signal(sequence: int, share: float, *, ends_s: float = 100.0) -> Broadcast:
    return Broadcast(group="north", sequence=sequence, heard_s=10.0, ends_s=ends_s, body=Regulation(signal=share))


def test_what_a_restarted_sync_says_again_moves_nothing() -> None:
    """Sync forgets which sequence came last when it is restarted; an old price could be played to it then."""
    kept = Broadcasts()
    assert kept.take(price(5, 500))
    assert not kept.take(price(5, 999))
    assert not kept.take(price(4, 999))
    assert not kept.take(signal(3, 1.0)), "one order over all kinds"
    assert kept.price("north", 20.0) == (Price(ticks=500, step_share=0.0), "")
    assert kept.take(price(1, 7, group="south")), "each group has its own"


def test_the_newest_of_each_kind_holds_until_it_ends() -> None:
    kept = Broadcasts()
    kept.take(price(1, 500, ends_s=50.0))
    kept.take(signal(2, -0.5, ends_s=30.0))
    kept.take(price(3, 600, ends_s=40.0))
    assert kept.price("north", 39.9)[0] == Price(ticks=600, step_share=0.0)
    assert kept.price("north", 43.0) == (None, "the last price of group north expired 3 s ago")
    heard = kept.signal("north", 29.9)
    assert (heard.value, heard.quality, heard.at_s) == (-0.5, Quality.GOOD, 10.0)
    gone = kept.signal("north", 30.0)
    assert (gone.good, gone.reason) == (None, "the last regulation of group north expired 0 s ago")


def test_a_group_that_was_told_nothing_says_so() -> None:
    assert Broadcasts().price("east", 0.0) == (None, "group east has heard no price yet")
    assert Broadcasts().signal("east", 0.0).reason == "group east has heard no regulation yet"

"""The bench of believing commands measures commands that are believed."""

from hil.bench.verify import verify_figures


def test_figures_are_of_believed_commands_and_say_what_is_an_estimate() -> None:
    figures = verify_figures()
    assert {"intent_verify_us", "broadcast_verify_us", "broadcast_verify_us_pi_estimate"} <= figures.keys()
    assert all(value > 0 for value in figures.values())

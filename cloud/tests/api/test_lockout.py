from cloud.api.lockout import Lockout


class Now:
    def __init__(self) -> None:
        self.s = 100.0

    def __call__(self) -> float:
        return self.s


def test_locks_at_the_last_failure_and_opens_when_the_oldest_is_past() -> None:
    now = Now()
    lockout = Lockout(failures=3, window_s=60, monotonic_s=now)
    for _ in range(3):
        assert lockout.locked_for_s("ada") == 0
        lockout.failed("ada")
        now.s += 10
    assert lockout.locked_for_s("ada") == 30
    assert lockout.locked_for_s("bob") == 0
    now.s += 30
    assert lockout.locked_for_s("ada") == 0
    lockout.failed("ada")  # the two younger failures still count
    assert lockout.locked_for_s("ada") == 10


def test_success_forgives() -> None:
    lockout = Lockout(failures=1, window_s=60, monotonic_s=Now())
    lockout.failed("ada")
    lockout.succeeded("ada")
    assert lockout.locked_for_s("ada") == 0


def test_made_up_names_push_out_the_longest_untouched() -> None:
    lockout = Lockout(failures=1, window_s=60, monotonic_s=Now(), keys=2)
    for key in ("ada", "bob", "ada", "eve"):
        lockout.failed(key)
    assert [lockout.locked_for_s(key) > 0 for key in ("ada", "bob", "eve")] == [True, False, True]

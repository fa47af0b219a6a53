"""The door of the engine: counted, refused at once, given back always."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.engine import Draining, EngineLimits, LargerThanAdmission, Overloaded, Starting
from app.engine.admission import Admission


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def opened(clock: Clock | None = None, **limits: int) -> Admission:
    admission = Admission(EngineLimits(**limits), clock or Clock())  # type: ignore[arg-type]
    admission.refusal = None
    return admission


def test_a_hold_counts_while_it_is_entered() -> None:
    admission = opened()
    with admission.images(3), admission.bytes(500), admission.prompts(7):
        used = (admission.images_in_use, admission.bytes_in_use, admission.prompts_in_use)
        assert used == (3, 500, 7)
    assert (admission.images_in_use, admission.bytes_in_use, admission.prompts_in_use) == (0, 0, 0)


def test_a_hold_that_is_never_entered_counts_nothing() -> None:
    admission = opened()
    admission.images(3)
    assert admission.images_in_use == 0


def test_the_limit_itself_is_let_in_and_one_more_is_not() -> None:
    admission = opened(max_images=4)
    with admission.images(3), admission.images(1):
        with pytest.raises(Overloaded, match="try again in 1 s"), admission.images(1):
            pass
        assert admission.images_in_use == 4


def test_what_never_fits_is_told_so_even_when_idle() -> None:
    admission = opened(max_images=4)
    with pytest.raises(LargerThanAdmission, match=r"5 images are more than .* at once \(4\)"):
        admission.images(5).__enter__()


def test_a_hold_grows_and_gives_all_of_it_back() -> None:
    admission = opened(max_bytes=100)
    with admission.bytes(0) as hold, admission.bytes(40):
        hold.grow(30)
        hold.grow(30)
        assert admission.bytes_in_use == 100
        with pytest.raises(Overloaded):
            hold.grow(1)
        assert admission.bytes_in_use == 100
    assert admission.bytes_in_use == 0


def test_a_hold_that_grows_over_the_whole_admission_never_fits() -> None:
    admission = opened(max_bytes=100)
    with admission.bytes(90) as hold, pytest.raises(LargerThanAdmission):
        hold.grow(11)
    assert admission.bytes_in_use == 0


def test_places_are_given_back_when_the_work_raises() -> None:
    admission = opened()
    with pytest.raises(KeyError), admission.images(2):
        raise KeyError
    assert admission.images_in_use == 0


@pytest.mark.parametrize("refusal", [Starting, Draining])
def test_a_shut_door_says_why(refusal: type[Exception]) -> None:
    admission = opened()
    admission.refusal = refusal  # type: ignore[assignment]
    for hold in (admission.images(1), admission.bytes(1), admission.prompts(1)):
        with pytest.raises(refusal), hold:
            pass


def test_a_new_door_is_shut_until_the_engine_is_ready() -> None:
    with pytest.raises(Starting), Admission(EngineLimits()).images(1):
        pass


def refusal_after(rate: float, *, waiting: int) -> int:
    """Retry-After when `waiting` images are in hand and they were finished at `rate` images a second."""
    clock = Clock()
    admission = opened(clock, max_images=waiting)
    for _ in range(50):
        with admission.images(1):
            clock.now += 1 / rate
        clock.now += 1000  # idle time must not count
    with admission.images(waiting), pytest.raises(Overloaded) as refused, admission.images(1):
        pass
    return refused.value.retry_after_s


def test_retry_after_is_the_waiting_work_at_the_measured_rate() -> None:
    assert refusal_after(20.0, waiting=99) == 5
    assert refusal_after(20.0, waiting=101) == 6


def test_retry_after_stays_within_a_second_and_a_minute() -> None:
    assert refusal_after(1e6, waiting=10) == 1
    assert refusal_after(0.01, waiting=10) == 60


def test_retry_after_follows_a_rate_that_changes() -> None:
    clock = Clock()
    admission = opened(clock, max_images=100)
    for seconds in [0.01] * 100 + [1.0] * 300:
        with admission.images(1):
            clock.now += seconds
    with admission.images(30), pytest.raises(Overloaded) as refused, admission.images(71):
        pass
    assert refused.value.retry_after_s in (29, 30)


@given(st.lists(st.integers(0, 6), max_size=40))
def test_never_more_inside_than_the_limit(sizes: list[int]) -> None:
    admission = opened(max_images=10)
    holds = []
    for n in sizes:
        hold = admission.images(n)
        try:
            hold.__enter__()
        except Overloaded:
            assert admission.images_in_use + n > 10
        else:
            holds.append(hold)
        assert admission.images_in_use <= 10
    for hold in holds:
        hold.__exit__(None, None, None)
    assert admission.images_in_use == 0


@pytest.mark.parametrize("name", ["max_images", "max_bytes", "max_prompts", "max_batch"])
def test_limits_below_one_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        EngineLimits(**{name: 0})  # type: ignore[arg-type]


def test_to_expect_is_to_be_refused_in_time_and_to_take_nothing() -> None:
    admission = opened(max_bytes=100)
    with admission.bytes(60), admission.bytes(0) as hold:
        hold.expect(40)
        with pytest.raises(Overloaded):
            hold.expect(41)
        with pytest.raises(LargerThanAdmission):
            hold.expect(101)
        assert admission.bytes_in_use == 60


def at_two_a_second(clock: Clock, **limits: float) -> Admission:
    """A door that has seen images finished at two a second, with batches of 4."""
    admission = opened(clock, max_batch=4, **limits)  # type: ignore[arg-type]
    for _ in range(20):
        with admission.images(1):
            clock.now += 0.5
    return admission


def test_what_would_wait_too_long_at_the_measured_rate_is_refused() -> None:
    admission = at_two_a_second(Clock(), max_wait_s=10)
    with admission.images(20):
        admission.images(1).expect(1)
        with admission.images(1), pytest.raises(Overloaded, match="try again in 11 s"):
            admission.images(1).expect(1)


def test_two_batches_are_let_in_however_slow_they_are() -> None:
    admission = at_two_a_second(Clock(), max_wait_s=1)
    with admission.images(8):
        admission.images(1).expect(1)
        with admission.images(1), pytest.raises(Overloaded):
            admission.images(1).expect(1)


def test_work_that_was_not_done_is_no_part_of_the_rate() -> None:
    clock = Clock()
    admission = at_two_a_second(clock)
    for _ in range(1000):
        with pytest.raises(TimeoutError), admission.images(8):
            raise TimeoutError  # at once, so that it would count as fast
    with admission.images(1024), pytest.raises(Overloaded, match="try again in 60 s"):
        admission.images(1).expect(1)

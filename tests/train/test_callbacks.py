import pytest

pytestmark = pytest.mark.once


@pytest.mark.parametrize(("seconds", "text"), [(0, "0 s"), (39.6, "40 s"), (119, "119 s"), (192, "3.2 min")])
def test_the_time_left_in_a_unit_that_fits(keras, seconds, text):
    from kit.train.callbacks import _duration

    assert _duration(seconds) == text

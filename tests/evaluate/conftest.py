import pytest
from threadpoolctl import threadpool_limits


@pytest.fixture(autouse=True)
def one_thread():
    """Thousands of small fits: with threads of their own, beside other tests, they would take many times as long."""
    with threadpool_limits(1):
        yield

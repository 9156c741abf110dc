"""The stub of Kaggle, for the fuzzer of its answers."""

from tests.kaggle.conftest import stub, wheel  # noqa: F401

"""Models by their structure alone."""

from functools import cache

import pytest


@pytest.fixture(scope="session")
def outline(keras):
    """A function: name -> the registered model at its card's size and outputs, without values: built in a moment."""
    from kit.models import registry

    @cache
    def build(name):
        card = registry.model_card(name)
        with keras.StatelessScope(initialize_variables=False):
            model = registry.build(name, shape=(card.size, card.size, 3), outputs=card.outputs)
        keras.utils.clear_session()  # which would otherwise initialise the variables later on
        return model

    return build


def pytest_generate_tests(metafunc):
    if "registered" in metafunc.fixturenames:
        from kit.config import RuntimeSettings
        from kit.runtime import devices

        devices.set_up(RuntimeSettings())
        from kit.models import registry

        names = [n for n in registry.list_models() if registry.model_card(n).prediction == "probabilities"]
        metafunc.parametrize("registered", names)

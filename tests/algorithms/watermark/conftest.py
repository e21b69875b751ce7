import pytest

from tests.tiny_causal_lm import load_tiny, save_tiny_causal_lm


@pytest.fixture(scope="session")
def tiny_spec(tmp_path_factory):
    return save_tiny_causal_lm(tmp_path_factory.mktemp("tiny_lm"))


@pytest.fixture(scope="session")
def tiny(tiny_spec):
    return load_tiny(tiny_spec)

"""Marks of tests that need what is not installed everywhere."""

from importlib.util import find_spec

import pytest

NEEDS_RAY = pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed: pip install '.[ray]'")

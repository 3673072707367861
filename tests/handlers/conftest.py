"""A comparison that fails in the stage shows what differs, as one in a test does."""

import pytest

pytest.register_assert_rewrite("tests.handlers.stage")

"""Whatever clients do, the server logs no error, unless the test says that it makes some."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest


class Errors(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@pytest.fixture(autouse=True)
def no_error_is_logged(request: pytest.FixtureRequest) -> Iterator[list[logging.LogRecord]]:
    errors = Errors()
    logging.getLogger().addHandler(errors)
    yield errors.records
    logging.getLogger().removeHandler(errors)
    if "failures" not in request.fixturenames:
        assert [record.getMessage() for record in errors.records] == []


@pytest.fixture
def failures(no_error_is_logged: list[logging.LogRecord]) -> list[logging.LogRecord]:
    """The errors logged so far. Only a test that asks for them may have any."""
    return no_error_is_logged

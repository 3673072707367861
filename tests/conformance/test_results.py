"""What of Autobahn's results passes, and what is written down."""

from __future__ import annotations

import json

from tests.conformance import results
from tests.conformance.results import Case


def cases(**others: str) -> dict[str, Case]:
    """As many as there are in sections 4 and 10, all of them OK but these."""
    names = [f"4.{number}" for number in range(1, 11)] + ["10.1.1"]
    found = {
        name: {"behavior": others.get(f"_{name}", "OK"), "behaviorClose": "OK", "duration": 2, "remoteCloseCode": 1000}
        for name in reversed(names)
    }
    return results.read(json.dumps({"photinus": found}).encode())


def test_they_are_in_their_order() -> None:
    assert list(cases())[-2:] == ["4.10", "10.1.1"]


def test_all_is_well() -> None:
    assert results.problems(cases(), (4, 10)) == []
    assert results.rows(cases(), (4, 10))[0] == ("4", "Opcodes", 10, 10, 0, 0)


def test_what_failed_is_named() -> None:
    found = cases(**{"_4.2": "FAILED", "_4.3": "WRONG CODE", "_4.4": "NON-STRICT"})
    problems = results.problems(found, (4, 10))
    assert [problem.partition(" ")[0] for problem in problems] == ["4.2:", "4.3:", "4.4:"]
    assert results.rows(found, (4,)) == [("4", "Opcodes", 10, 7, 1, 2)]


def test_a_connection_that_did_not_end_well_failed() -> None:
    found = cases()
    found["4.1"].behavior_close = "UNCLEAN"
    assert results.problems(found, (4,)) == ["4.1: UNCLEAN (answers: OK, close: UNCLEAN 1000)"]


def test_a_run_in_which_cases_are_missing_has_not_passed() -> None:
    found = cases()
    del found["4.7"]
    assert results.problems(found, (4,)) == ["section 4: 9 cases were run, expected 10"]
    assert len(results.problems({}, results.ALL)) == len(results.ALL)


def test_what_was_looked_at_passes_and_is_written_down() -> None:
    found = cases()
    found["3.2"] = Case("NON-STRICT", "OK", 2, 1002)
    assert [problem for problem in results.problems(found, (4,)) if "3.2" in problem] == []
    assert f"| 3.2 | NON-STRICT | {results.LOOKED_AT['3.2']} |" in results.document(found, "1")

"""Rules that JSON Schema cannot say, so that schemathesis does not take them for faults.

A request that breaks one is valid by the OpenAPI document and still refused with 422.
"""

from __future__ import annotations

import re
from typing import Any

import schemathesis

RULES = (
    r"should have \d+ entries, has \d+",  # lists that go together are as long as each other
    r"row \d+: should end in an? (user|assistant) turn, the last is by \w+",
    r"row \d+: is empty",  # the last message of a prompt holds white space alone
    r"row \d+: is both a column and in meta",
    r"row \d+: .* is (also the id of line \d+|given twice)",
    r"row \d+: should be text or a whole number, found the number .*",  # JSON Schema takes 3.0
    r"a query does not begin with its prompt",
    r"there is no such upload",
    r"this service reads no data sets of its own: upload one",
    r"is for kind compare",
    r"opponents is a count from 1 up, for rewards by comparison",
    r"rubric '\w+' needs a reference and item '.*' has none",
    r"is a place in the run, 1 to \d+, not .*",
    r"this run takes a choice",  # its grades are for a run of scores
    r"names the run to hold this one against",
    r"is for runs that judge",
)
_FILE = "/labels/import"
"""Where a body is a file, of whose rows no schema tells."""
_RULE = re.compile("|".join(f"(?:{rule})" for rule in RULES), re.DOTALL)


@schemathesis.hook
def filter_failure(_context: Any, failure: Any, case: Any, response: Any) -> bool:
    """Whether a failure is one."""
    if type(failure).__name__ != "RejectedPositiveData" or response.status_code != 422:
        return True
    if case.operation.path.endswith(_FILE):
        return not re.match(r"row \d+: |holds no rows", response.json()["detail"])
    return _RULE.fullmatch(response.json()["detail"]) is None

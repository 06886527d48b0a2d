"""From facts to proposals. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from dbupkeep.definitions import Policy
from dbupkeep.engine import Scope
from dbupkeep.engines.postgresql import analyze, check, reindex, rewrite, vacuum
from dbupkeep.engines.postgresql.inquiry import Inquiry
from dbupkeep.estimates import History
from dbupkeep.facts import DatabaseFacts
from dbupkeep.operations import Operation
from dbupkeep.plans import Proposal

PROPOSE: Mapping[Operation, Callable[[Inquiry], Sequence[Proposal]]] = {
    Operation.VACUUM: vacuum.propose,
    Operation.ANALYZE: analyze.propose,
    Operation.REINDEX: reindex.propose,
    Operation.CHECK: check.propose,
    Operation.OPTIMIZE: rewrite.propose,
}


def assess(facts: DatabaseFacts, policy: Policy, history: History, scope: Scope) -> Sequence[Proposal]:
    """Propose what to do, at least one proposal for each operation asked for."""
    return [
        proposal
        for operation in scope.operations
        if operation in PROPOSE
        for proposal in PROPOSE[operation](
            Inquiry(operation=operation, facts=facts, policy=policy, history=history, scope=scope)
        )
    ]

"""From facts to proposals. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from dbupkeep.definitions import Policy
from dbupkeep.engine import Scope
from dbupkeep.engines.postgresql.inquiry import Inquiry
from dbupkeep.engines.postgresql.performers import PERFORMERS, performer
from dbupkeep.estimates import History
from dbupkeep.facts import DatabaseFacts
from dbupkeep.plans import Proposal


def assess(facts: DatabaseFacts, policy: Policy, history: History, scope: Scope) -> Sequence[Proposal]:
    """Propose what to do, at least one proposal for each operation asked for."""
    return [
        proposal
        for operation in scope.operations
        if operation in PERFORMERS
        for proposal in performer(operation).propose(
            Inquiry(operation=operation, facts=facts, policy=policy, history=history, scope=scope)
        )
    ]

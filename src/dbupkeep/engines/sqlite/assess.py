"""From facts to proposals, and from a plan to what drifted. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from msgspec.structs import replace

from dbupkeep.definitions import Policy
from dbupkeep.engine import Scope
from dbupkeep.engines.sqlite import analyze, check, fingerprint, optimize, reindex, vacuum
from dbupkeep.engines.sqlite.inquiry import Inquiry
from dbupkeep.estimates import History
from dbupkeep.facts import DatabaseFacts
from dbupkeep.operations import Operation
from dbupkeep.plans import Decision, Proposal

PROPOSE: Mapping[Operation, Callable[[Inquiry], Sequence[Proposal]]] = {
    Operation.CHECK: check.propose,
    Operation.VACUUM: vacuum.propose,
    Operation.REINDEX: reindex.propose,
    Operation.OPTIMIZE: optimize.propose,
    Operation.ANALYZE: analyze.propose,
}


def assess(facts: DatabaseFacts, policy: Policy, history: History, scope: Scope) -> Sequence[Proposal]:
    """Propose what to do, at least one proposal for each operation asked for."""
    schema = fingerprint.of(facts)
    return [
        _marked(proposal, schema)
        for operation in scope.operations
        if operation in PROPOSE
        for proposal in PROPOSE[operation](
            Inquiry(operation=operation, facts=facts, policy=policy, history=history, scope=scope)
        )
    ]


def _marked(proposal: Proposal, schema: str) -> Proposal:
    """With what the schema was, where the whole file is worked on: a plan is not for tables that nobody planned for."""
    if proposal.object or not schema or proposal.decision is not Decision.RUN:
        return proposal
    return replace(proposal, evidence={**proposal.evidence, fingerprint.NAME: schema})

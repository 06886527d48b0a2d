"""From names of the configuration to a definition: what API and page may order. No path and no url comes from a request."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec import Struct, field
from msgspec.structs import replace

from dbupkeep import engines, operations
from dbupkeep.config import Config
from dbupkeep.definitions import JobDefinition, Policy, Step, Target
from dbupkeep.errors import UnknownName
from dbupkeep.ledger import TargetSummary
from dbupkeep.operations import Operation


class Order(Struct, frozen=True, kw_only=True):
    """A job of the configuration, or targets of it; what is not said is as the configuration has it."""

    definition: str = ""
    targets: tuple[str, ...] = ()
    operations: tuple[Operation, ...] = ()
    policy: str = ""
    force: bool = False
    consents: frozenset[str] = field(default_factory=frozenset)
    any_time: bool = False
    by: str = ""  # who orders it

    def read(self, config: Config) -> JobDefinition:
        """The definition. Raises `UnknownName`."""
        ordered = config.job(self.definition) if self.definition else self._of_targets(config)
        steps = tuple(self._changed(step, config) for step in ordered.steps)
        window = None if self.any_time else ordered.window
        return replace(ordered, steps=steps, window=window, requested_by=self.by)

    def _of_targets(self, config: Config) -> JobDefinition:
        targets = tuple(config.target(name) for name in dict.fromkeys(self.targets))
        name = targets[0].name if len(targets) == 1 else f"{targets[0].name} and {len(targets) - 1} more"
        step = Step(name="maintenance", targets=targets, operations=operations.parse(None), policy=config.policy())
        return JobDefinition(name=name, steps=(step,))

    def _changed(self, step: Step, config: Config) -> Step:
        policy: Policy = config.policy(self.policy) if self.policy else step.policy
        policy = replace(policy, force=policy.force or self.force, consents=policy.consents | self.consents)
        return replace(step, policy=policy, operations=operations.in_order(self.operations) or step.operations)


def key_of(target: Target) -> str:
    """What the ledger calls a target."""
    try:
        named = getattr(engines.load(target.engine), "key_of", None)
    except UnknownName:  # of an engine that is not installed any more
        named = None
    return str(named(target)) if named else target.url


def databases_of(target: Target, known: Iterable[TargetSummary]) -> Sequence[TargetSummary]:
    """Those of the known databases that a target stands for, what was run on last first."""
    key = key_of(target)
    place = f"{key.rstrip('/')}/"
    found = [each for each in known if each.key == key or (target.is_fleet and each.key.startswith(place))]
    return sorted(found, key=lambda each: (each.last_run_at is not None, each.last_run_at), reverse=True)

"""The events between services: the CloudEvents 1.0 envelope, and a module of published contracts for each service.

An event names a key and what happened to it; whoever receives it reads the rows (events wake, rows decide).
"""

from shared.events import deployer, gateway, registry
from shared.events.contract import EventType
from shared.events.envelope import CloudEvent, new_event

CONTRACTS: dict[str, EventType] = {
    contract.name: contract
    for module in (registry, deployer, gateway)
    for contract in vars(module).values()
    if isinstance(contract, EventType)
}
"""Every published contract by its type's name."""

TOPICS = tuple(sorted({contract.topic for contract in CONTRACTS.values()}))

__all__ = ["CONTRACTS", "TOPICS", "CloudEvent", "EventType", "deployer", "gateway", "new_event", "registry"]

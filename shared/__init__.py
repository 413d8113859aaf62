"""What all four services stand on: schema, outbox, bus, reconcile, http, errors, settings.

Nothing here knows a service. What only one service needs belongs to that service.
"""

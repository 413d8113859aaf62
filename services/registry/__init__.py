"""The registry: groups with members and quotas, instance types, models with their versions and files.

It knows what may be deployed and by whom, and nothing of how: of deployments it only reads who stands on what.
"""

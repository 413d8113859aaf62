"""The endpoint of a deployment as its callers see it: addresses, and a call that works as shown."""

"""The audit log: sealed into a chain, verified, read and followed. What is in it every service writes: shared.audit."""

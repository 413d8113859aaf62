"""The clients of a private endpoint: who may call it, with a token of their own."""

"""Sign-in: the OAuth 2 token endpoint, signing keys, passwords, refresh tokens. Who users are is `users`."""

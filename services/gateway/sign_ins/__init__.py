"""Who is signed in: each sign-in is begun, renewed with refresh tokens, looked at and ended."""

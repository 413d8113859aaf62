"""Sign-in through OpenID Connect providers: the authorization code flow with PKCE, any issuer, several at once.

A browser is sent to the provider by `/auth/login` and comes back to `/auth/callback/<name>`. Between the two nothing is
kept here: what has to be remembered is sealed in a cookie of that browser (`login`), so any gateway may take it up
again, and nobody can be signed in by what another has begun. Left out: the provider's own session (signing out here
does not sign out there), and its access tokens, which are used once and forgotten.
"""

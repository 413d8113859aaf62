"""Personal access tokens: made, listed, revoked. What they look like and reach: shared.access_tokens."""

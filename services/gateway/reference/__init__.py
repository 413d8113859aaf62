"""The reference that users read: `/openapi.json` of all services, `/docs`, `/docs/errors`. Self-contained: no CDN."""

"""Users: who there is, their own page (`/me`), the first administrator."""

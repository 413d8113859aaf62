"""Service accounts: users for pipelines, with a client secret instead of a password. Groups take them as members."""

"""Real servers for the tests, from package registries: fetched or built once, kept in a cache outside the tree."""

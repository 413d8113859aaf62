"""The main job, in front of the user's eyes: `python -m deploy.demo`, or `make demo`.

It starts a platform of its own in a temporary folder and on a free port, goes through the public HTTP API only, shows
the `curl` of each step, checks what came of it, and leaves nothing behind. `journey` is the job, `client` speaks HTTP,
`narrator` prints.
"""

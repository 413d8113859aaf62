"""Request series of deployments: how many, how many failed, how long they took; by version, client and code.

    scraper     asks Envoy what it has counted, and stores what was added since (`envoy`, `increments`, `commands`)
    rollup      5 s samples to minutes, hours and totals; what is too old goes
    api         series and summaries over any range (`queries`, `domain`, `histogram`)
    exposition  totals of every endpoint for Prometheus

Left out for now: resources of replicas, reward, usage reports.
"""

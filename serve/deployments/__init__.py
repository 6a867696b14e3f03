"""Ray Serve deployments: models and indexer, and how other replicas call them."""

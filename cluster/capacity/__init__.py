"""The capacity planner: which models and replicas fit which GPUs, how fast, at what price."""

"""What every model runs on: checkpoints into memory, devices, token budgets, attention."""

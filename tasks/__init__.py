"""How: reusable Prefect tasks (the modules) and the engines behind them (the sub-packages)."""

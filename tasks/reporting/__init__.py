"""What people see of a run: the report, its charts, the terminal, and the artifacts in Prefect."""

"""What the processes of the chapter on parallelism do: functions for `run_workers`, which have to stand in a module."""

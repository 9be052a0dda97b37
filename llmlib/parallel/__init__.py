"""One model on many processes: schedules of a pipeline, and the code that splits, runs and gathers."""

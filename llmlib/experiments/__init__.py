"""The long runs whose records the chapters plot."""

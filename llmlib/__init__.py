"""The package behind the book: chapters build a toy by hand, then use a module of llmlib and check that they agree."""

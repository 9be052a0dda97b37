"""The package behind the book: each chapter builds a toy by hand, then uses, and checks itself against, a module of llmlib."""

"""Text for a language model to learn from: the story world, the interpreter's own documents, your files, a hub data set."""

from llmlib.corpus.ambiguity import check_memory, find_ambiguity
from llmlib.corpus.grammar import Categorical, Choice, Derivation, Grammar, Nest, Pick, Say, Text
from llmlib.corpus.parsing import Parse, Parser, Recall
from llmlib.corpus.sources import hub_texts, load_text, python_docs, python_source
from llmlib.corpus.stories import (
    ATTRIBUTES,
    SEPARATOR,
    Character,
    Fact,
    FactSpan,
    NotAStory,
    Report,
    Story,
    StoryWorld,
    characters,
    stories,
    story_text,
)

__all__ = [
    "ATTRIBUTES", "SEPARATOR", "Categorical", "Character", "Choice", "Derivation", "Fact", "FactSpan", "Grammar", "Nest",
    "NotAStory", "Parse", "Parser", "Pick", "Recall", "Report", "Say", "Story", "StoryWorld", "Text", "characters",
    "check_memory", "find_ambiguity", "hub_texts", "load_text", "python_docs", "python_source", "stories", "story_text",
]  # fmt: skip

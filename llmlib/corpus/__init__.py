"""Text for a language model to learn from: the story world, Python's own documents, your files, a hub data set."""

from llmlib.corpus.ambiguity import check_memory, find_ambiguity
from llmlib.corpus.cast import ATTRIBUTES, Character, characters
from llmlib.corpus.grammar import Categorical, Choice, Derivation, Grammar, Nest, Pick, Say, Text
from llmlib.corpus.parsing import Parse, Parser, Recall
from llmlib.corpus.sources import hub_texts, load_text, python_docs, python_source
from llmlib.corpus.stories import (
    SEPARATOR,
    Fact,
    FactSpan,
    NotAStory,
    Report,
    Story,
    StoryWorld,
    stories,
    story_text,
)

__all__ = [
    "ATTRIBUTES", "SEPARATOR", "Categorical", "Character", "Choice", "Derivation", "Fact", "FactSpan",
    "Grammar", "Nest", "NotAStory", "Parse", "Parser", "Pick", "Recall", "Report", "Say", "Story",
    "StoryWorld", "Text", "characters", "check_memory", "find_ambiguity", "hub_texts", "load_text",
    "python_docs", "python_source", "stories", "story_text",
]  # fmt: skip

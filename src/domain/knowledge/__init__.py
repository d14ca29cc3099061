"""What an agent knows before the conversation, and the system prompt that is made of it."""

from .known import NOTHING_KNOWN, Knowledge, KnownFile, Skill
from .prompt import (
    KNOWLEDGE_FILES,
    SUBAGENT_FILES,
    PromptPart,
    can_read_skills,
    date_line,
    prompt_parts,
    system_prompt,
)
from .skills import InvalidSkill, is_skill_name, skill_of

__all__ = [
    "KNOWLEDGE_FILES",
    "NOTHING_KNOWN",
    "SUBAGENT_FILES",
    "InvalidSkill",
    "Knowledge",
    "KnownFile",
    "PromptPart",
    "Skill",
    "can_read_skills",
    "date_line",
    "is_skill_name",
    "prompt_parts",
    "skill_of",
    "system_prompt",
]

"""Label map -> image of any contrast."""

from pellucid.synthesis.generator import Example, GeneratorConfig, Record, build, draw
from pellucid.synthesis.subject import Subject
from pellucid.synthesis.tables import TISSUES, LabelTable, load_table

__all__ = [
    "TISSUES",
    "Example",
    "GeneratorConfig",
    "LabelTable",
    "Record",
    "Subject",
    "build",
    "draw",
    "load_table",
]

"""The configuration: its models, how it is read and checked. The import loads neither torch nor pandas."""

from anamnesis.config.checks import find_task_files
from anamnesis.config.load import config_section, load_config
from anamnesis.config.models import METHOD_NAMES, METHODS, Config

__all__ = ["METHODS", "METHOD_NAMES", "Config", "config_section", "find_task_files", "load_config"]

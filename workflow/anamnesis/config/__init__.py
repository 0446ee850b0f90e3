"""The configuration: its models, how it is read and checked. The import loads neither torch nor pandas."""

from anamnesis.config.load import config_section, load_config
from anamnesis.config.methods import METHOD_NAMES
from anamnesis.config.models import Config
from anamnesis.data.folder import find_task_files

__all__ = ["METHOD_NAMES", "Config", "config_section", "find_task_files", "load_config"]

"""The configuration: the settings of all packages, read and checked. The import loads no torch."""

from anamnesis.config.load import config_section, load_config
from anamnesis.config.methods import METHOD_NAMES
from anamnesis.config.models import Config

__all__ = ["METHOD_NAMES", "Config", "config_section", "load_config"]

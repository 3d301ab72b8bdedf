"""Settings, profiles and decks: checked whole before anything starts, then handed on as values.

source, scan     a TOML file with its line numbers
keys, vos3000    the table of plain settings, and VOS3000's names for them
entries          the tables whose entries the operator names: peers, gateways, accounts, ...
values           how each kind of value is read
layers           command line > environment > settings file > profile > default
tables           the entries gathered, the decks read
crosscheck       what the settings mean together: errors and warnings
build            `load`: the Policy and the Settings, or a ConfigError with every problem
machine          what only the machine can tell: a port in use, a folder that cannot be written
report           `check`: the same for people, without a start
reference        README's configuration reference, as Markdown
"""

from sidecar.config.build import Inputs, Loaded, load
from sidecar.config.problems import ConfigError, Problem, Where
from sidecar.config.settings import Bridge, Listen, Mqtt, Settings, TlsFiles
from sidecar.config.tables import DeckReader

__all__ = [
    "Bridge",
    "ConfigError",
    "DeckReader",
    "Inputs",
    "Listen",
    "Loaded",
    "Mqtt",
    "Problem",
    "Settings",
    "TlsFiles",
    "Where",
    "load",
]

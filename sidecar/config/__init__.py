"""Settings, profiles and decks: checked whole before anything starts, then handed on as values.

source, toml     a TOML file, also with very many accounts
scan             its line numbers
settings         the plain settings, each declared once, and the value in force of each
entries          the same for the tables whose entries the operator names: peers, gateways, accounts, ...
vos3000          VOS3000's names for some settings
declare, values  what a declaration holds; how each kind of value is read
layers           command line > environment > settings file > profile > default
tables           the entries read and gathered, the decks read
stored           entries that commands have made, as if the profile had them
candidate        what the settings would be with others of those
export           all of it as one profile
crosscheck       what the settings mean together: errors and warnings
build            `load`: the Policy and the Settings, or a ConfigError with every problem
machine          what only the machine can tell: a port in use, a folder that cannot be written
report           `check`: the same for people, without a start
reference        the reference of the settings, as Markdown
"""

from sidecar.config.build import Inputs, Loaded, load, node_name
from sidecar.config.problems import ConfigError, Problem, Where
from sidecar.config.settings import Settings
from sidecar.config.stored import Away, Books
from sidecar.config.tables import DeckReader

__all__ = [
    "Away",
    "Books",
    "ConfigError",
    "DeckReader",
    "Inputs",
    "Loaded",
    "Problem",
    "Settings",
    "Where",
    "load",
    "node_name",
]

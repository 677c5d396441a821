"""callbridge carries voice calls between messenger apps and the phone network."""

__version__ = "0.1.0"

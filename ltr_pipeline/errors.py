"""Everything this package raises on purpose, in one tree.

::

    LtrError
    ├── SettingsError          an environment variable, Airflow Variable or Param is wrong
    ├── MappingError           the declarative event mapping is wrong
    ├── CalendarError          the calendar of declared events is wrong
    ├── DraftError             no mapping can be drafted from a log
    ├── SourceError            events cannot be read: file missing, unreadable, not landed
    │   └── SourceUnavailableError  they cannot be reached now; later, or elsewhere, they may
    ├── DatasetError           no dataset can be built from what has landed
    ├── RankerError            training or scoring cannot go on
    │   └── NothingToLearnError
    ├── SegmentError           segments cannot be trained, or nothing can be classified by them
    ├── RequestError           a request to rank cannot be read
    ├── WeightsError           a weights document is altered, truncated or inconsistent
    ├── ProgramError           a program on this machine cannot be started or stopped
    ├── DatabaseError          a database, a table of it or a right in it is not as needed
    │   └── DatabaseUnavailableError  it cannot be had now; later it may
    ├── ScoringError           a scoring job is wrong, or rows of a table cannot be scored
    ├── RegistryError          a version cannot be published, promoted or found
    │   ├── UnknownVersionError
    │   └── OvertakenError     somebody else was first
    └── StorageError           an object cannot be read or written
        ├── NotFoundError
        ├── AlreadyExistsError
        └── BusyError              another has what is needed, or has just changed it; later it may be had

A message says what was wrong, where, and what to do about it.
"""

from __future__ import annotations


class LtrError(Exception):
    """Base of every error this package raises on purpose."""


class SettingsError(LtrError):
    """An environment variable, an Airflow Variable or a run Param has a wrong value."""


class MappingError(LtrError):
    """The event mapping cannot be read or contradicts itself."""


class CalendarError(LtrError):
    """The calendar of declared events cannot be read or contradicts itself."""


class DraftError(LtrError):
    """A log holds nothing that a mapping could be drafted from."""


class SourceError(LtrError):
    """Events cannot be read from their source, or a needed range never landed."""


class SourceUnavailableError(SourceError):
    """The source cannot be reached now; nothing shows that a setting is wrong."""


class DatasetError(LtrError):
    """No dataset can be built from the events that have landed."""


class RankerError(LtrError):
    """A model cannot be trained, loaded or scored."""


class NothingToLearnError(RankerError):
    """The training rankings hold nothing that a ranker could learn; the gate then keeps the former model."""


class SegmentError(LtrError):
    """Segments of engagement cannot be trained, or there is nothing to classify or to classify by."""


class ProgramError(LtrError):
    """A program on this machine cannot be started, is not well, or does not end."""


class RequestError(LtrError):
    """A request to rank, or what came with it, cannot be read."""


class WeightsError(LtrError):
    """A weights document was altered, truncated, or contradicts itself."""


class DatabaseError(LtrError):
    """A database, a table or column of it, or a right in it is not as it is needed."""


class DatabaseUnavailableError(DatabaseError):
    """The database cannot be reached, has gone away, or another session was in the way; the same again may work."""


class ScoringError(LtrError):
    """A scoring job is wrong, or the rows of a table cannot be scored."""


class RegistryError(LtrError):
    """A version cannot be published, promoted, pinned or rolled back."""


class UnknownVersionError(RegistryError):
    """No version of that name is in the registry."""


class OvertakenError(RegistryError):
    """The ledger, or a decision, is no longer the one that a person looked at."""


class StorageError(LtrError):
    """An object cannot be read from or written to storage."""


class NotFoundError(StorageError):
    """No object has that key."""


class AlreadyExistsError(StorageError):
    """An object with that key exists already and is never overwritten."""


class BusyError(StorageError):
    """Another run has what this one needs, or has changed it meanwhile; the same again may work."""

"""Every error this package raises on purpose.

    MusicgenRLError
    ├── ConfigError            an option has a value that cannot work      (ValueError)
    ├── InputError             a prompt, file or manifest cannot be used   (ValueError)
    │   └── AudioFileError     an audio file is missing, broken or foreign
    ├── ModelError             a model cannot be used
    │   ├── ModelNotFoundError no such model here                         (FileNotFoundError)
    │   ├── CheckpointError    a tensor or file is missing or misshapen   (ValueError)
    │   └── UnsupportedModelError  a kind of model we do not run          (ValueError)
    └── ResourceError          the machine ran out of something           (OSError)
        ├── StorageError       disk full, folder not writable
        └── MemoryLimitError   not enough memory                          (MemoryError)

A message says what is wrong, names the value, and says what to do. Command lines print it as one
line and exit with 2.
"""


class MusicgenRLError(Exception):
    """Base of all errors raised on purpose; its text is written for the user."""


class ConfigError(MusicgenRLError, ValueError):
    """An option has a value that cannot work."""


class InputError(MusicgenRLError, ValueError):
    """A prompt, file or manifest given by the user cannot be used."""


class AudioFileError(InputError):
    """An audio file is missing, truncated, or not audio."""


class ModelError(MusicgenRLError):
    """A model cannot be used."""


class ModelNotFoundError(ModelError, FileNotFoundError):
    """No model is found under the given name."""


class CheckpointError(ModelError, ValueError):
    """A checkpoint lacks a tensor or a file, or one has the wrong shape."""


class UnsupportedModelError(ModelError, ValueError):
    """The checkpoint is sound but of a kind this package does not run."""


class ResourceError(MusicgenRLError, OSError):
    """The machine ran out of something."""


class StorageError(ResourceError):
    """A file could not be written: disk full, folder missing or not writable."""


class MemoryLimitError(ResourceError, MemoryError):
    """There is not enough memory for the request."""

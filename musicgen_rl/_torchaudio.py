"""One cure for one trap: torchaudio's wheel is linked against CUDA, whatever torch it sits beside.

On a torch without CUDA, `import torchaudio` fails to load its native library, and with it fail
`import peft`, `import encodec` and most of transformers' audio and text models. Its Python parts
(mel spectrograms, resampling, MFCC) need none of that library. So, where torch has no CUDA, we
answer the import of `torchaudio._extension` with a module that says "no native library here",
which is a state torchaudio itself provides for.

`install` only puts a finder on `sys.meta_path`: it imports neither torch nor torchaudio, and the
decision is taken when torchaudio is imported, by which time it has imported torch itself. What is
lost on a torch without CUDA: the forced-alignment operators and the C++ loop of `lfilter`.
"""

import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

_EXTENSION = "torchaudio._extension"


class _ExtensionLoader(Loader):
    """Fills in the names that torchaudio's Python code takes from its extension package."""

    def exec_module(self, module: ModuleType) -> None:
        def check_cuda_version() -> None:
            """Compare nothing: there is no CUDA build to compare with."""

        def load_lib(name: str) -> bool:
            """Report every native library as absent."""
            return False

        def fail_if_no_align(function: object) -> object:
            """Replace an alignment operator by one that explains why it is missing."""

            def fail(*args: object, **kwargs: object) -> None:
                raise RuntimeError(
                    "forced alignment needs torchaudio's native library, which needs a CUDA torch"
                )

            return fail

        module.__dict__.update(
            _IS_TORCHAUDIO_EXT_AVAILABLE=False,
            _IS_ALIGN_AVAILABLE=False,
            _check_cuda_version=check_cuda_version,
            _load_lib=load_lib,
            fail_if_no_align=fail_if_no_align,
        )


class _ExtensionFinder(MetaPathFinder):
    """Answers for `torchaudio._extension` on a torch without CUDA or ROCm, else steps aside."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        if fullname != _EXTENSION:
            return None
        import torch  # torchaudio has imported it already

        if torch.version.cuda is not None or torch.version.hip is not None:
            return None
        # Marked as a package, as the real one is, so that its submodules are still found.
        return ModuleSpec(fullname, _ExtensionLoader(), is_package=True)


def install() -> None:
    """Put the finder first on `sys.meta_path`, once, however often it is called."""
    if not any(isinstance(finder, _ExtensionFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _ExtensionFinder())

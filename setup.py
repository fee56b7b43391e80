"""Build the compiled CPU kernels if there is a C++ compiler. Without one the package installs too.

Everything else about the package is in pyproject.toml.
"""

import os
import platform
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

NATIVE = Path("src/backbench/backbones/kernels/native")
FLAGS = ["-std=c++17", "-O3", "-fno-math-errno", "-fno-trapping-math", "-fvisibility=hidden", "-g0"]
# One object per instruction set. The library picks one at run time. Sets unknown to the compiler are skipped.
SETS = {"generic": []}
if platform.machine().lower() in ("x86_64", "amd64"):
    SETS |= {"avx2": ["-mavx2", "-mfma"], "avx512": ["-mavx512f", "-mfma"]}


class BuildKernels(build_ext):
    """Build a plain shared library for ctypes. It needs no headers of Python or PyTorch."""

    def get_ext_filename(self, fullname):
        return str(Path(*fullname.split(".")).with_suffix(".so"))

    def get_export_symbols(self, ext):
        return []

    def build_extension(self, ext):
        try:
            self.find_compiler()
            target = Path(self.get_ext_fullpath(ext.name))
            objects = self.compile_all()
            target.parent.mkdir(parents=True, exist_ok=True)
            target.unlink(missing_ok=True)  # a process may have loaded the old one, so never overwrite it
            self.compiler.link_shared_object(objects, str(target), extra_postargs=["-pthread"], target_lang="c++")
        except Exception as error:  # whatever fails, the package works without
            self.warn(f"the compiled CPU kernels were not built ({error}); everything works, but more slowly")

    def find_compiler(self):
        """Use CXX if it is set, else the compiler that Python was built with, else any that is installed."""
        commands = (self.compiler.compiler_so_cxx, self.compiler.compiler_cxx, self.compiler.linker_so_cxx)
        if "CXX" not in os.environ and shutil.which(commands[0][0]) is None:
            found = next(filter(shutil.which, ("g++", "c++", "clang++")), commands[0][0])
            for command in commands:
                command[0] = found

    def compile_all(self):
        """Objects of all instruction sets that the compiler supports, compiled in parallel."""
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            futures = {
                name: pool.submit(self.compile, "kernels.cpp", [("BACKBENCH_SET", name)], flags, name)
                for name, flags in SETS.items()
            }
        objects, macros = futures["generic"].result(), []
        for name in list(SETS)[1:]:
            if error := futures[name].exception():
                self.warn(f"no CPU kernels for {name}: {error}")
            else:
                objects += futures[name].result()
                macros.append((f"BACKBENCH_HAS_{name.upper()}", "1"))
        return objects + self.compile("library.cpp", macros, ["-fvisibility=default"], "library")

    def compile(self, source, macros, flags, folder):
        return self.compiler.compile(
            [str(NATIVE / source)],
            output_dir=str(Path(self.build_temp) / folder),
            macros=macros,
            extra_postargs=[*FLAGS, *flags],
            depends=[str(header) for header in NATIVE.glob("*.h")],
        )

    def get_outputs(self):
        return [path for path in super().get_outputs() if Path(path).exists()]

    def copy_extensions_to_source(self):
        try:
            super().copy_extensions_to_source()
        except OSError as error:
            self.warn(f"the compiled CPU kernels were not built ({error})")


class Wheel(bdist_wheel):
    """The wheel depends on the platform, but not on the version of Python."""

    def get_tag(self):
        return "py3", "none", super().get_tag()[2]


setup(
    ext_modules=[
        Extension(
            "backbench.backbones.kernels.native._native", [str(NATIVE / "kernels.cpp"), str(NATIVE / "library.cpp")]
        )
    ],
    # An older build may have left a library in the source folder.
    exclude_package_data={"": ["*.so"]},
    cmdclass={"build_ext": BuildKernels, "bdist_wheel": Wheel},
)

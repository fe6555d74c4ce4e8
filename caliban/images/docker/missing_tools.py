"""Find in the output of a failed step which program, header or library the image does not have, and its Debian package.

The messages are those of shells, pip, setuptools (distutils), CMake, Meson, Cargo, pkg-config and compilers.
"""

from __future__ import annotations

import re
from collections.abc import Callable

_PROGRAMS = {
    "bzr": "brz",
    "c++": "g++",
    "cargo": "cargo",
    "cc": "gcc",
    "clang++": "clang",
    "curl-config": "libcurl4-openssl-dev",
    "gdal-config": "libgdal-dev",
    "geos-config": "libgeos-dev",
    "gmake": "make",
    "gpg": "gnupg",
    "h5cc": "libhdf5-dev",
    "hg": "mercurial",
    "java": "default-jre-headless",
    "javac": "default-jdk-headless",
    "krb5-config": "libkrb5-dev",
    "llvm-config": "llvm-dev",
    "mpicc": "libopenmpi-dev",
    "mysql_config": "default-libmysqlclient-dev",
    "nc-config": "libnetcdf-dev",
    "ninja": "ninja-build",
    "node": "nodejs",
    "pg_config": "libpq-dev",
    "pkgconf": "pkg-config",
    "protoc": "protobuf-compiler",
    "Rscript": "r-base-core",
    "rustc": "rustc",
    "sdl2-config": "libsdl2-dev",
    "svn": "subversion",
    "xml2-config": "libxml2-dev",
    "xslt-config": "libxslt1-dev",
    "xz": "xz-utils",
}
"""Programs whose package has another name."""

_SAME_NAME = re.compile(
    r"autoconf|automake|bash|bison|bzip2|clang|cmake|curl|ffmpeg|flex|g\+\+|gawk|gcc|gfortran|git|git-lfs|libtool|m4|make"
    r"|meson|nasm|npm|patch|patchelf|perl|pkg-config|rsync|ruby|swig|unzip|wget|zip|zsh"
)
"""Programs whose package has their name."""

_HEADERS = (
    (r"Python\.h|pyconfig\.h", "python3-dev"),
    (r"alsa/.*", "libasound2-dev"),
    (r"boost/.*", "libboost-all-dev"),
    (r"bzlib\.h", "libbz2-dev"),
    (r"cairo(/cairo)?\.h", "libcairo2-dev"),
    (r"(open)?cblas\.h|lapacke\.h", "libopenblas-dev"),
    (r"curl/.*", "libcurl4-openssl-dev"),
    (r"Eigen/.*|unsupported/Eigen/.*", "libeigen3-dev"),
    (r"expat\.h", "libexpat1-dev"),
    (r"ffi\.h", "libffi-dev"),
    (r"fftw3.*", "libfftw3-dev"),
    (r"ft2build\.h", "libfreetype-dev"),
    (r"gdal.*|cpl_.*\.h", "libgdal-dev"),
    (r"geos_c\.h", "libgeos-dev"),
    (r"GL/glu?\.h|GL/glext\.h|EGL/.*", "libgl1-mesa-dev"),
    (r"gmp\.h|gmpxx\.h", "libgmp-dev"),
    (r"graphviz/.*", "libgraphviz-dev"),
    (r"gsl/.*", "libgsl-dev"),
    (r"(gssapi/.*|gssapi|krb5)\.h", "libkrb5-dev"),
    (r"hdf5\.h", "libhdf5-dev"),
    (r"jpeglib\.h", "libjpeg-dev"),
    (r"(ldap|lber)\.h", "libldap2-dev"),
    (r"leveldb/.*", "libleveldb-dev"),
    (r"libav.*/.*\.h", "libavformat-dev"),
    (r"libpq-fe\.h|postgres.*\.h|pg_config\.h", "libpq-dev"),
    (r"librdkafka/.*", "librdkafka-dev"),
    (r"libusb.*\.h", "libusb-1.0-0-dev"),
    (r"libxml/.*", "libxml2-dev"),
    (r"libxslt/.*", "libxslt1-dev"),
    (r"(limits|stdio|stdlib|string|errno|assert|math|unistd)\.h|sys/types\.h|features\.h", "libc6-dev"),
    (r"linux/.*|asm/.*", "linux-libc-dev"),
    (r"lz4\.h", "liblz4-dev"),
    (r"lzma\.h", "liblzma-dev"),
    (r"mpfr\.h", "libmpfr-dev"),
    (r"mpi\.h", "libopenmpi-dev"),
    (r"(mysql|mysql/mysql)\.h", "default-libmysqlclient-dev"),
    (r"numa\.h", "libnuma-dev"),
    (r"opencv2/.*", "libopencv-dev"),
    (r"openssl/.*", "libssl-dev"),
    (r"png\.h", "libpng-dev"),
    (r"portaudio\.h", "portaudio19-dev"),
    (r"readline/.*", "libreadline-dev"),
    (r"sasl/.*", "libsasl2-dev"),
    (r"SDL2?(/SDL)?\.h", "libsdl2-dev"),
    (r"snappy(-c)?\.h", "libsnappy-dev"),
    (r"sndfile\.h", "libsndfile1-dev"),
    (r"sqlite3\.h", "libsqlite3-dev"),
    (r"(sql|sqlext)\.h", "unixodbc-dev"),
    (r"tiffio\.h", "libtiff-dev"),
    (r"uuid/.*", "uuid-dev"),
    (r"X11/.*", "libx11-dev"),
    (r"yaml\.h", "libyaml-dev"),
    (r"zlib\.h", "zlib1g-dev"),
    (r"zmq\.h", "libzmq3-dev"),
    (r"zstd\.h", "libzstd-dev"),
)

_CUDA = frozenset({"nvcc", "cuda.h", "cuda_runtime.h", "cuda_runtime_api.h", "cublas_v2.h", "cudnn.h"})

_NAME = r"[A-Za-z][\w.+-]{0,60}"
_PATH = rf"(?:/[\w./-]{{1,100}}/)?(?P<name>{_NAME})"
_PROGRAM_MESSAGES = tuple(
    re.compile(pattern)
    for pattern in (
        # Shells: "/bin/sh: 1: git: not found", "bash: line 1: git: command not found".
        rf"(?:^|[\s:]){_PATH}: (?:command )?not found\b",
        rf"\benv: \W?{_PATH}\W?: No such file or directory",
        # make: "make: gcc: No such file or directory".
        rf"^g?make(?:\[\d+\])?: {_PATH}: No such file or directory",
        # Python: "[Errno 2] No such file or directory: 'git'"; without a slash it is a program.
        rf"No such file or directory: '(?P<name>{_NAME})'",
        # distutils and setuptools: "error: command 'gcc' failed: No such file or directory", "unable to execute 'gcc'".
        rf"command '{_PATH}' failed: No such file or directory",
        rf"unable to execute '?{_PATH}'?: No such file or directory",
        # pip: "Cannot find command 'git' - do you have 'git' installed and in your PATH?".
        rf"Cannot find command '(?P<name>{_NAME})'",
        r"\b(?P<name>pg_config|mysql_config) executable (?:not found|is required)",
        # Meson: "ERROR: Unknown compiler(s): [['gfortran'], ...", "Program 'git' not found or not executable".
        rf"Unknown compiler\(s\): \[\[?'{_PATH}'",
        rf"\bProgram '?{_PATH}'? (?:not found|found: NO)",
        # Cargo: "error: linker `cc` not found".
        rf"linker `{_PATH}` not found",
        # CMake and setup.py files that call it.
        r"\b(?P<name>C[Mm]ake) must be installed\b",
        r"\b(?P<name>pkg-config) (?:could not be found|is not installed|is required)",
        r"Could not find (?P<name>cmake|ninja|git|swig|protoc|nvcc|pkg-config|make|gcc|g\+\+)(?: executable)?\b",
    )
)
_SENTENCES = (
    (
        re.compile(r"No CMAKE_C_COMPILER could be found|C compiler cannot create executables|no acceptable C compiler"),
        "gcc",
    ),
    (re.compile(r"No CMAKE_CXX_COMPILER could be found|gcc: (?:fatal )?error: .*cc1plus"), "g++"),
    (re.compile(r"No CMAKE_Fortran_COMPILER could be found"), "gfortran"),
    (re.compile(r"No CMAKE_CUDA_COMPILER could be found|CUDA_HOME environment variable is not set"), "nvcc"),
    (
        re.compile(r"CMAKE_MAKE_PROGRAM is not set|unable to find a build program corresponding to \"Unix Makefiles\""),
        "make",
    ),
    (
        re.compile(r"(?i)can't find Rust compiler|the Rust package manager, is not installed|Rust toolchain is not"),
        "cargo",
    ),
    (re.compile(r"Did not find pkg-config|Could NOT find PkgConfig"), "pkg-config"),
)
_HEADER_MESSAGES = (
    re.compile(r"fatal error: (?P<name>[\w./+-]{1,100}): No such file or directory"),
    re.compile(r"fatal error: '(?P<name>[\w./+-]{1,100})' file not found"),
)
_LIBRARY_MESSAGES = (
    (re.compile(r"cannot find (?:crt1|crti|Scrt1)\.o|cannot find -l(?:c|m|pthread)\b"), "libc6-dev"),
    (re.compile(r"libGL\.so\.1: cannot open shared object file"), "libgl1"),
    (re.compile(r"libgthread-2\.0\.so\.0: cannot open shared object file"), "libglib2.0-0"),
    (re.compile(r"libgomp\.so\.1: cannot open shared object file"), "libgomp1"),
    (re.compile(r"libsndfile\.so(?:\.1)?: cannot open shared object file"), "libsndfile1"),
)


def apt_hint(line: str, config_file: str) -> str | None:
    """Return a hint for a line of a failed step that names what the image does not have; None for any other line.

    Args:
        line: of the output.
        config_file: the name of the project's configuration.
    """
    line = line[:1000]
    if (program := _missing(line, _program)) is not None:
        if program in _CUDA:
            return _cuda_hint(program, config_file)
        package = _PROGRAMS.get(program, program if _SAME_NAME.fullmatch(program) else None)
        return None if package is None else _hint(program, package, config_file)
    for message in _HEADER_MESSAGES:
        if match := message.search(line):
            return _header_hint(match["name"], config_file)
    package = next((package for message, package in _LIBRARY_MESSAGES if message.search(line)), None)
    return None if package is None else f'add "{package}" to "apt_packages" in {config_file}'


def _missing(line: str, find: Callable[[str], str | None]) -> str | None:
    name = find(line)
    if name is None:
        return None
    # x86_64-linux-gnu-gcc and gcc-12 are gcc to apt.
    short = re.sub(r"^[a-z0-9_]+-linux-gnu[a-z]*-|-\d+(\.\d+)?$", "", name)
    return short.lower() if short == "CMake" else short


def _program(line: str) -> str | None:
    for message in _PROGRAM_MESSAGES:
        if match := message.search(line):
            return match["name"]
    return next((program for message, program in _SENTENCES if message.search(line)), None)


def _header_hint(header: str, config_file: str) -> str:
    if header in _CUDA:
        return _cuda_hint(header, config_file)
    package = next((package for pattern, package in _HEADERS if re.fullmatch(pattern, header)), None)
    if package is None:
        return f'add the Debian package with {header} to "apt_packages" in {config_file}'
    return _hint(header, package, config_file)


def _hint(what: str, package: str, config_file: str) -> str:
    return f'the image has no {what}: add "{package}" to "apt_packages" in {config_file}'


def _cuda_hint(what: str, config_file: str) -> str:
    return f'the image has no {what}: set a "base_image" with the CUDA toolkit (a devel image) in {config_file}'

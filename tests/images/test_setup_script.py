from __future__ import annotations

import pytest

from caliban.images.setup_script import read_setup_script

SETUP = "from setuptools import setup, find_packages\n"


@pytest.mark.parametrize(
    ("source", "files"),
    [
        ("setup(name='x', packages=find_packages(), install_requires=['six'])", []),
        ("setup(install_requires=open('requirements/base.txt').read().splitlines())", ["requirements/base.txt"]),
        ("with open('VERSION') as f:\n    version = f.read()\nsetup(version=version)", ["VERSION"]),
        ("import os\nhere = os.path.abspath(os.path.dirname(__file__))\n"
         "setup(x=open(os.path.join(here, 'docs', 'README.md')).read())", ["docs/README.md"]),
        ("from pathlib import Path\nHERE = Path(__file__).resolve().parent\n"
         "setup(x=(HERE / 'a' / 'b.txt').read_text())", ["a/b.txt"]),
        ("import pathlib\nsetup(x=pathlib.Path('a', 'b.txt').read_text())", ["a/b.txt"]),
        ("import os\ndef read(*parts):\n    with open(os.path.join(os.path.dirname(__file__), *parts)) as f:\n"
         "        return f.read()\nsetup(x=read('a', 'b.txt'), y=read('VERSION'))", ["a/b.txt", "VERSION"]),
        ("def read(name, encoding='utf-8'):\n    path = f'requirements/{name}.txt'\n    return open(path).read()\n"
         "setup(x=read('base'), y=read(name='dev'))", ["requirements/base.txt", "requirements/dev.txt"]),
        ("import io\nsetup(x=io.open('README.md', encoding='utf-8').read())", ["README.md"]),
        ("import os\nif os.path.exists('requirements/base.txt'):\n    x = open('requirements/base.txt').readlines()\n"
         "setup()", ["requirements/base.txt"]),
        ("try:\n    x = open('A').read()\nexcept OSError:\n    x = open('B').read()\nsetup()", ["A", "B"]),
        ("import re\nsetup(version=re.search('x', open('trainer/__init__.py').read()).group(1))",
         ["trainer/__init__.py"]),
        ("setup(package_dir={'': 'src'}, packages=find_packages('src'))", []),
    ],
)  # fmt: skip
def test_the_files_that_a_setup_script_reads_are_found(source: str, files: list[str]) -> None:
    result = read_setup_script((SETUP + source).encode())
    assert result.problem is None
    assert result.files == files


@pytest.mark.parametrize(
    "source",
    [
        "import sys\nsetup(x=open(sys.argv[1]).read())",
        "import glob\nsetup(x=glob.glob('requirements/*.txt'))",
        "from pathlib import Path\nsetup(x=[p.read_text() for p in Path('requirements').iterdir()])",
        "import os\nsetup(x=os.listdir('requirements'))",
        "exec(open('trainer/version.py').read())\nsetup()",
        "import trainer\nsetup(version=trainer.__version__)",
        "from trainer import __version__\nsetup(version=__version__)",
        "import numpy\nsetup()",
        "from Cython.Build import cythonize\nsetup(ext_modules=cythonize('x.pyx'))",
        "from setuptools import Extension\nsetup(ext_modules=[Extension('x', ['x.c'])])",
        "setup(cmdclass={'build_py': None})",
        "setup(package_dir={'mylib': 'lib/python'})",
        "setup(data_files=[('share', ['x'])])",
        "settings = {}\nsetup(**settings)",
        "import subprocess\nsubprocess.check_output(['git', 'describe'])\nsetup()",
        "def read(name):\n    for line in open(name):\n        if line.startswith('-r'):\n            read(line[3:])\n"
        "read('requirements.txt')\nsetup()",
        "this is no Python (",
    ],
)
def test_a_setup_script_that_may_read_more_needs_the_whole_project(source: str) -> None:
    assert read_setup_script((SETUP + source).encode()).problem is not None

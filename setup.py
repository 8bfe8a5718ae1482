"""Partita's distribution: the repository root is the package `partita`, its folders are the sub-packages.

Extras add what a plain install does without: `gurobi` and `layers` are solvers for linear programs, `gpu` the compiler
of GPU kernels, `ray` a way to spread a benchmark over machines, `all` both solvers, `test` what the tests need. No
version has a ceiling here; `constraints.txt` names the ones that were tested together.
"""

from pathlib import Path

from setuptools import find_packages, setup

FLOORS = ["kernels", "problems", "relaxations", "bab"]

EXTRAS = {
    "gurobi": ["gurobipy>=11"],
    "layers": ["cvxpylayers>=1.2"],
    "gpu": ["triton>=3.0; platform_system == 'Linux'"],
    "ray": ["ray>=2.9"],
}
EXTRAS["all"] = [*EXTRAS["gurobi"], *EXTRAS["layers"]]
EXTRAS["test"] = ["pytest>=8", "pytest-xdist>=3.5", "hypothesis>=6.100", "ruff>=0.6", "mypy>=1.18", "scikit-learn>=1.4"]

setup(
    name="partita",
    version="0.1.0",
    description="A branch-and-bound verifier for neural networks that measures its own partition.",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    package_dir={"partita": "."},
    packages=["partita"]
    + [f"partita.{name}" for name in find_packages(include=[f"{floor}*" for floor in FLOORS])]
    + ["partita.configs"],
    package_data={"partita": ["py.typed"], "partita.configs": ["*.yaml"]},
    install_requires=[
        "torch>=2.6",
        "numpy>=1.26",
        "onnx>=1.16",
        "onnxruntime>=1.18",
        "onnxscript>=0.5",
        "scipy>=1.12",
        "highspy>=1.7",
        "vnnlib>=1.0",
        "pyyaml>=6",
        "rich>=13",
        "pyarrow>=15",
        "matplotlib>=3.8",
    ],
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["partita = partita.bab.commands.main:main"]},
)

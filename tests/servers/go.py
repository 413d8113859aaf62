"""Programs built from Go modules: what the tests' Kubernetes is made of. Needs Go to build them, not to run them.

A set of programs is a module of ours that requires theirs, built by one `go build`, so that what they share is compiled
once. A program in `KUBEBUILDER_ASSETS`, where envtest keeps its own, is taken instead.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from tests.servers.cache import made_once, missing


@dataclass(frozen=True)
class Programs:
    """`packages` are the programs, each named like its folder; `main` is a program of our own, named like the set."""

    name: str
    module: str
    version: str
    packages: Sequence[str] = ()
    main: str = ""
    variables: Sequence[str] = ()
    """`package.variable=value`, set by the linker: mostly the version that the program says it has."""
    files: Sequence[str] = ()
    """Files of their module to keep beside the programs."""

    def program(self, name: str) -> Path:
        """Built when it is not in the cache. Skips where that is not possible."""
        given = Path(os.environ.get("KUBEBUILDER_ASSETS", "")) / name
        return given if given.is_absolute() and given.exists() else self.built() / name

    def built(self) -> Path:
        recipe = sha256(repr(self).encode()).hexdigest()
        return made_once(f"{self.name}-{self.version}-{recipe[:8]}", self._build)

    def _build(self, into: Path) -> None:
        work = into / "build"
        work.mkdir()
        (work / "go.mod").write_text(self._requirements())
        if self.main:
            (work / "main.go").write_text(self.main)
        linker = " ".join(("-s", "-w", *(f"-X {each}" for each in self.variables)))
        argv = ["go", "build", "-mod=mod", "-trimpath", "-ldflags", linker, "-o", f"{into}/"]
        argv += self.packages or ["."]
        subprocess.run(argv, cwd=work, check=True, stdout=sys.stderr, env=_environment())
        shutil.rmtree(work)
        for each in self.files:
            (into / Path(each).name).write_bytes(
                (Path(downloaded(self.module, self.version)["Dir"]) / each).read_bytes()
            )

    def _requirements(self) -> str:
        """A go.mod. What theirs takes from `./staging` in its own tree is published as v0.minor.patch of themselves."""
        theirs = Path(downloaded(self.module, self.version)["GoMod"]).read_text()
        language = re.search(r"^go .+$", theirs, re.MULTILINE)
        assert language
        lines = [f"module {self.name}", language.group(), f"require {self.module} {self.version}"]
        published = self.version.replace("v1.", "v0.", 1)
        lines += (f"replace {each} => {each} {published}" for each in re.findall(r"(\S+) => \./staging/", theirs))
        return "\n".join(lines) + "\n"


def downloaded(module: str, version: str) -> dict[str, str]:
    """What `go mod download` says: `Dir` is the module unpacked, `GoMod` its go.mod. Skips where it cannot be had."""
    if shutil.which("go") is None:
        missing("the Kubernetes of the tests is built by Go, which is not installed")
    argv = ["go", "mod", "download", "-json", f"{module}@{version}"]
    done = subprocess.run(argv, cwd="/", capture_output=True, check=False, env=_environment())
    found: dict[str, str] = json.loads(done.stdout or b"{}")
    if done.returncode:
        missing(f"{module} {version} cannot be fetched: {found.get('Error') or done.stderr.decode()}")
    return found


def _environment() -> dict[str, str]:
    return {**os.environ, "CGO_ENABLED": "0", "GOWORK": "off"}


def _kubernetes(name: str, version: str, *programs: str) -> Programs:
    return Programs(
        name=name,
        module="k8s.io/kubernetes",
        version=version,
        packages=[f"k8s.io/kubernetes/cmd/{each}" for each in programs],
        variables=[f"k8s.io/component-base/version.gitVersion={version}"],
    )


ETCD = Programs(
    name="etcd",
    module="go.etcd.io/etcd/server/v3",
    version="v3.6.16",
    main="""package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() { etcdmain.Main(os.Args) }
""",
)
KUBERNETES = _kubernetes(
    "kubernetes", "v1.36.3", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl"
)
KUBELET = _kubernetes("kubelet", "v1.34.4", "kubelet")
"""From 1.35 on it refuses cgroup v1, which many machines still have. Older than its API server by two is allowed."""
_NODE_STAGES = "kustomize/stage/node"
KWOK = Programs(
    name="kwok",
    module="sigs.k8s.io/kwok",
    version="v0.8.0",
    packages=["sigs.k8s.io/kwok/cmd/kwok"],
    files=[
        f"{_NODE_STAGES}/fast/node-initialize.yaml",
        f"{_NODE_STAGES}/heartbeat-with-lease/node-heartbeat-with-lease.yaml",
    ],
)
_HELM = "helm.sh/helm/v3"
HELM = Programs(
    name="helm",
    module=_HELM,
    version="v3.22.0",
    packages=[f"{_HELM}/cmd/helm"],
    variables=[
        f"{_HELM}/internal/version.version=v3.22.0",
        # Without them it renders and lints for Kubernetes 1.20.
        *(f"{_HELM}/pkg/{each}.k8sVersionMajor=1" for each in ("chartutil", "lint/rules")),
        *(f"{_HELM}/pkg/{each}.k8sVersionMinor=36" for each in ("chartutil", "lint/rules")),
    ],
)
COMPOSE = Programs(
    name="compose-config",
    module="github.com/compose-spec/compose-go/v2",
    version="v2.16.2",
    main="""package main

import (
	"context"
	"fmt"
	"os"

	"github.com/compose-spec/compose-go/v2/cli"
)

func main() {
	options, err := cli.NewProjectOptions(os.Args[1:], cli.WithOsEnv)
	if err == nil {
		if project, failed := options.LoadProject(context.Background()); failed != nil {
			err = failed
		} else if text, failed := project.MarshalJSON(); failed != nil {
			err = failed
		} else {
			fmt.Println(string(text))
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
""",
)
"""What `docker compose config` does, with the library that does it there."""
_S3 = "github.com/versity/versitygw"
S3 = Programs(name="versitygw", module=_S3, version="v1.8.0", packages=[f"{_S3}/cmd/versitygw"])
"""An S3 server over a folder."""
ALL = (ETCD, KUBERNETES, KWOK, KUBELET, HELM, COMPOSE, S3)

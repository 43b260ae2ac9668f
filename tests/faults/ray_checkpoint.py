"""Whether a job loses records at the worst moment for Ray Data's own checkpoint, with Ray's files and with neort's.

    python tests/faults/ray_checkpoint.py

Ray writes the ids of a task to a file with the name "pending", then the results, then it renames the file: the ids are
committed. The moment: a writer dies right after that, so Ray tries its task again; once the ids are pending again, the
whole machine dies. The next run finds the ids both pending and committed, removes the results because of the one, and
leaves out the ids because of the other. Prints what is left of 100 records after the next run; the exit status tells
whether neort has all of them. Needs neort[ray]; Linux.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "tests" / "support")]

from ray_jobs import MODULE, environment, kill_marked, results  # noqa: E402

COUNT = 100
RUNS = 4
HOOK = '''
"""Lets the first writer die after its commit, and everything when its task is tried again."""
import importlib.abc, importlib.machinery, os, sys

NAME, FLAG = "ray.data.checkpoint.checkpoint_writer", os.environ.get("WORST_MOMENT", "")

class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name != NAME:
            return None
        sys.meta_path.remove(self)
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        execute = spec.loader.exec_module
        def patched(module):
            execute(module)
            patch(module.BatchBasedCheckpointWriter)
        spec.loader.exec_module = patched
        return spec

def patch(writer):
    commit, pending = writer.commit_checkpoint, writer.write_pending_checkpoint
    def then_die(self, each):
        commit(self, each)
        try:
            with open(FLAG, "x") as file:
                file.write(each.committed_path)
        except FileExistsError:
            return
        os.kill(os.getpid(), 9)
    def then_all_die(self, ids, checkpoint_id):
        each = pending(self, ids, checkpoint_id)
        if each is not None and os.path.exists(FLAG) and open(FLAG).read() == each.committed_path:
            mark = ("NEORT_JOB_MARK=" + os.environ["NEORT_JOB_MARK"] + chr(0)).encode()
            for process in filter(str.isdecimal, os.listdir("/proc")):
                try:
                    if int(process) != os.getpid() and mark in open(f"/proc/{process}/environ", "rb").read():
                        os.kill(int(process), 9)
                except OSError:
                    pass
            os.kill(os.getpid(), 9)
        return each
    writer.commit_checkpoint, writer.write_pending_checkpoint = then_die, then_all_die

if FLAG:
    sys.meta_path.insert(0, Finder())
'''
OWN = """
import sys
import ray.data
from ray.data.checkpoint import CheckpointConfig
folder = sys.argv[1]
ray.init("local", num_cpus=3, include_dashboard=False, log_to_driver=False)
context = ray.data.DataContext.get_current()
context.checkpoint_config = CheckpointConfig("id", folder + "/ids", delete_checkpoint_on_success=False)
class Copy:
    def __call__(self, batch):
        return batch | {"text": batch["prompt"]}
rows = ray.data.read_parquet(folder + "/in.parquet")
rows.map_batches(Copy, compute=ray.data.ActorPoolStrategy(size=1)).write_json(folder + "/out")
"""


def rays_own(folder: Path) -> list[str]:
    """A program with Ray's reader, writer and checkpoint."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"id": range(COUNT), "prompt": [f"p{i}" for i in range(COUNT)]}), folder / "in.parquet")
    return [sys.executable, "-c", OWN, str(folder)]


def neorts(folder: Path) -> list[str]:
    """neort's command on the same records."""
    lines = [json.dumps({"id": i, "prompt": f"p{i}"}) for i in range(COUNT)]
    (folder / "in.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return [
        *(sys.executable, "-m", MODULE, str(folder / "in.jsonl"), str(folder / "out"), "--workers", "1"),
        *("--num-threads", "1", "--max-new-tokens", "1", "--records-per-file", "25"),
        *("--bundle", str(ROOT / "tests" / "bundles" / "neo-mini")),
    ]


def tried(name: str, command: Callable[[Path], list[str]], folder: Path) -> bool:
    """Run it until it ends well; whether every id is there once."""
    (folder / "sitecustomize.py").write_text(HOOK, encoding="utf-8")
    mark, arguments = f"{os.getpid()} {name}", command(folder)
    hooked = environment(mark) | {"WORST_MOMENT": str(folder / "moment")}
    hooked["PYTHONPATH"] = f"{folder}{os.pathsep}{hooked['PYTHONPATH']}"
    statuses = []
    for run in range(RUNS):
        env = hooked if run == 0 else environment(mark)
        statuses.append(subprocess.run(arguments, env=env, capture_output=True, check=False).returncode)
        kill_marked(mark)
        if statuses[-1] == 0:
            break
    files = results(folder / "out") or b"".join(file.read_bytes() for file in (folder / "out").glob("*.json"))
    ids = [json.loads(line)["id"] for line in files.splitlines()]
    lost, twice = COUNT - len(set(ids)), len(ids) - len(set(ids))
    sys.stdout.write(
        f"{name}: runs ended with {statuses}; of {COUNT} records {lost} are lost, {twice} are there twice\n"
    )
    sys.stdout.flush()
    return not lost and not twice and (folder / "moment").exists()


def main() -> int:
    sound = False
    for name, command in (("Ray's own files", rays_own), ("neort's files", neorts)):
        with tempfile.TemporaryDirectory() as folder:
            sound = tried(name, command, Path(folder))
    return 0 if sound else 1


if __name__ == "__main__":
    raise SystemExit(main())

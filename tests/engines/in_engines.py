"""What runs inside the engines, in the environment of this ring: ``in_engines.py dask|ray|ray-async URL FOLDER``.

One worker is killed in the middle of its part. The engine does the part again on another worker.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import pandas

import nbchat

SCHEMA = {
    "title": "Label",
    "type": "object",
    "properties": {"label": {"type": "string"}},
    "required": ["label"],
}
ROWS = 60


class Killed:
    """Asks as ``each`` does, and kills the first worker after one half of the part with row 0."""

    def __init__(self, each, folder: str) -> None:
        self._each, self._flag = each, Path(folder) / "killed"

    def __call__(self, part):
        if len(part) and int(part["number"].min()) == 0 and not self._flag.exists():
            self._each(part.iloc[: len(part) // 2])
            self._flag.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return self._each(part)


def table() -> pandas.DataFrame:
    return pandas.DataFrame({"number": range(ROWS), "text": [f"text {number % 50}" for number in range(ROWS)]})


def with_dask(each, killed) -> pandas.DataFrame:
    import dask.dataframe
    from distributed import Client, LocalCluster

    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster, Client(cluster) as client:
        rows = dask.dataframe.from_pandas(table(), npartitions=4)
        done = rows.map_partitions(killed, meta=each.meta(rows)).compute()
        assert client is not None
        return done


def with_ray(each, killed, *, is_async: bool = False) -> pandas.DataFrame:
    import ray

    from nbchat.rows.engines import RayEach

    # More than the actors take, because the tasks that read the data need some, too.
    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    ray.data.DataContext.get_current().enable_progress_bars = False
    rows = ray.data.from_pandas(table()).repartition(4)
    if is_async:
        return rows.map_batches(
            RayEach, fn_constructor_args=(each,), batch_format="pandas", batch_size=15, concurrency=2, max_concurrency=2
        ).to_pandas()
    return rows.map_batches(killed, batch_format="pandas", batch_size=15).to_pandas()


def main() -> None:
    engine, url, folder = sys.argv[1:]
    each = nbchat.each(
        "Classify: {{ text }}", schema=SCHEMA, share=1 / 2, shards=f"{folder}/shards", endpoint=url, model="m"
    )
    killed = Killed(each, folder)
    done = with_dask(each, killed) if engine == "dask" else with_ray(each, killed, is_async=engine == "ray-async")
    done = done.sort_values("number")
    print(json.dumps({"columns": list(done.columns), "rows": done.to_dict("records"), "each": list(each.columns)}))


if __name__ == "__main__":
    main()

"""gunicorn's settings: a worker for each CPU, each with threads whose requests are decoded together."""

import os

preload_app = True  # the model is loaded before the workers are forked
cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
workers = int(os.environ.get("WEB_CONCURRENCY") or cpus)
threads = 8
bind = "127.0.0.1:8000"
